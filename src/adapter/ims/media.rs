//! A call's RTP session: our leg's way for chunks, in what both sides can do.

use std::io;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::adapter::sip::rtp::{Kept, Leg, LegEvent, RtpPorts, transcoded};
use crate::call::Input;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::directive::Directives;
use crate::protocol::event::State;
use crate::service::gateway::OurEnd;

/// A session, and what its far side can do.
#[derive(Debug)]
pub(super) struct Media {
    pub(super) leg: Leg,
    pub(super) events: mpsc::Receiver<LegEvent>,
    native: Advertisement,
    attached: bool,
}

fn read(directives: &Value) -> Directives {
    Directives::from_value(directives).map(|(directives, _)| directives).unwrap_or_default()
}

impl Media {
    pub(super) fn new(ports: &RtpPorts) -> io::Result<Self> {
        Ok(Self::of(ports.session()?))
    }

    /// A session that was written down.
    pub(super) fn resume(ports: &RtpPorts, kept: Kept) -> io::Result<Self> {
        Ok(Self::of(ports.resume(kept)?))
    }

    fn of((leg, events): (Leg, mpsc::Receiver<LegEvent>)) -> Self {
        Self { leg, events, native: Advertisement::default(), attached: false }
    }

    /// Descriptions have been exchanged: the call learns what the far side can do, and media has its way.
    pub(super) async fn negotiated(&mut self, end: &mut OurEnd, native: Advertisement) {
        self.native = native;
        self.attach(end).await;
        self.adapt(end).await;
    }

    async fn attach(&mut self, end: &OurEnd) {
        // A leg that answers has its port, if it is not over.
        if self.attached || end.calls.view(end.leg, None).await.is_err() {
            return;
        }
        if let Some(port) = end.ports.get(end.leg) {
            let entrance = end.ports.open(&port, end.handler(), self.leg.path());
            self.leg.attach(entrance, end.calls.id);
            self.attached = true;
        }
    }

    /// Without transcoding where the other side shares a codec with the telephone; with it where not.
    async fn adapt(&mut self, end: &mut OurEnd) {
        for advertisement in [self.native.clone(), transcoded(&self.native)] {
            end.device.advertisement = advertisement;
            let changed = Input::Changed { device: end.device.clone() };
            if let Err(problem) = end.calls.input(changed).await {
                tracing::debug!(code = problem.code.as_str(), "a change of the far side came too late");
            }
            let Ok(view) = end.calls.view(end.leg, Some(end.handler())).await else { return };
            let flows = |directives: &Value| read(directives).audio().is_some();
            let held = view.state == State::Answered && read(&view.client_directives).is_empty() && view.held;
            if held || flows(&view.client_directives) && flows(&view.server_directives) {
                return self.direct(&view.client_directives, &view.server_directives);
            }
        }
    }

    /// What is in force now: what our leg's device sends, and what it is sent.
    pub(super) fn direct(&self, client: &Value, server: &Value) {
        self.leg.direct(read(client), read(server));
    }
}
