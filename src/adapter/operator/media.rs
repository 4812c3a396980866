//! A call's WebRTC session at the operator: our leg's way for chunks, in what both sides can do.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::adapter::webrtc::{Leg, LegEvent, WebRtc};
use crate::call::Input;
use crate::clock;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::codec::MediaKind;
use crate::protocol::directive::Directives;
use crate::protocol::event::State;
use crate::service::gateway::OurEnd;

/// How long a session may be without packets before its call ends.
const LOST: Duration = Duration::from_secs(15);

/// A session, and how it fares.
#[derive(Debug)]
pub(super) struct Media {
    pub(super) leg: Leg,
    pub(super) events: mpsc::Receiver<LegEvent>,
    native: Advertisement,
    attached: bool,
    agreed: bool,
    /// When the call ends, if nothing is heard until then.
    pub(super) lost: Option<Instant>,
}

fn read(directives: &Value) -> Directives {
    Directives::from_value(directives).map(|(directives, _)| directives).unwrap_or_default()
}

impl Media {
    pub(super) fn new() -> io::Result<Self> {
        // An operator's end has one UDP port for all, so that ours must differ.
        let (leg, events) = WebRtc::agent()?;
        let native = Advertisement::default();
        Ok(Self { leg, events, native, attached: false, agreed: false, lost: None })
    }

    /// What any session can send and render, as long as nothing is agreed on.
    pub(super) fn possible() -> Advertisement {
        WebRtc::advertised(&WebRtc::names(&WebRtc::advertisement(), MediaKind::Audio), &[])
    }

    /// Descriptions have been exchanged: the call learns what the far side can do, and media has its way. False: nothing
    /// that both sides know.
    pub(super) async fn negotiated(&mut self, end: &mut OurEnd, native: Advertisement) -> bool {
        if WebRtc::names(&native, MediaKind::Audio).is_empty() {
            return false;
        }
        self.native = native;
        if !std::mem::replace(&mut self.agreed, true) {
            // A far side that never comes is as good as lost.
            self.fear();
        }
        self.attach(end).await;
        self.adapt(end).await;
        true
    }

    async fn attach(&mut self, end: &OurEnd) {
        // A leg that answers has its port, if it is not over.
        if self.attached || end.calls.view(end.leg, None).await.is_err() {
            return;
        }
        if let Some(port) = end.ports.get(end.leg) {
            let entrance = end.ports.open(&port, end.handler(), self.leg.path());
            self.leg.attach(entrance, end.calls.id).await;
            self.attached = true;
        }
    }

    /// Without transcoding where the other side shares a codec with the operator; with it where not.
    async fn adapt(&mut self, end: &mut OurEnd) {
        for advertisement in [self.native.clone(), WebRtc::transcoded(&self.native)] {
            end.device.advertisement = advertisement;
            let changed = Input::Changed { device: end.device.clone() };
            if let Err(problem) = end.calls.input(changed).await {
                tracing::debug!(code = problem.code.as_str(), "a change of the far side came too late");
            }
            let Ok(view) = end.calls.view(end.leg, Some(end.handler())).await else { return };
            let flows = |directives: &Value| read(directives).audio().is_some();
            let held = view.state == State::Answered && read(&view.client_directives).is_empty() && view.held;
            if held || flows(&view.client_directives) && flows(&view.server_directives) {
                return self.direct(&view.client_directives, &view.server_directives).await;
            }
        }
    }

    /// What is in force now: what our leg's device sends, and what it is sent.
    pub(super) async fn direct(&self, client: &Value, server: &Value) {
        self.leg.direct(read(client), read(server)).await;
    }

    /// Nothing is heard any more.
    pub(super) fn fear(&mut self) {
        self.lost.get_or_insert(clock::instant() + LOST);
    }
}
