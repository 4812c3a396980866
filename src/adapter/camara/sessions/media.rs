//! What a session's descriptions mean for the call: which codecs the device has there, and the way of its media.

use serde_json::Value;

use super::owner::{Ask, Owner};
use crate::adapter::webrtc::WebRtc;
use crate::call::Input;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::codec::MediaKind;
use crate::protocol::directive::Directives;
use crate::protocol::event::State;

impl Owner {
    /// Descriptions have been exchanged: the call learns what this device can do, and media has its way.
    pub(super) async fn negotiated(&mut self, native: Advertisement) {
        let video = |ad: &Advertisement| ad.sources().any(|entry| entry.kind() == Some(MediaKind::Video));
        let adds_video = self.agreed && video(&native) && !video(&self.native);
        let first = !std::mem::replace(&mut self.agreed, true);
        self.native = native;
        if first {
            // A browser that never comes is as good as lost.
            self.fear();
        }
        self.attach().await;
        self.adapt().await;
        if adds_video {
            self.to_others(|_| Some(Ask::Video)).await;
        }
    }

    pub(super) async fn to_others(&self, ask: impl Fn(&Self) -> Option<Ask>) {
        let Ok(calls) = self.calls() else { return };
        for other in self.shared.others(calls.id, self.view.id) {
            if let Some(ask) = ask(self) {
                // Two sessions never wait for each other.
                let _ = other.try_send(ask);
            }
        }
    }

    async fn attach(&mut self) {
        let Ok(calls) = self.calls() else { return };
        // A leg that answers has its port, if it is not over.
        if self.attached || calls.view(self.leg, None).await.is_err() {
            return;
        }
        let ports = &self.shared.service.ports;
        if let Some(port) = ports.get(self.leg) {
            let entrance = ports.open(&port, self.handler.key, self.media.path());
            self.media.attach(entrance, calls.id).await;
            self.attached = true;
        }
    }

    /// Without transcoding where the other side shares a codec with the browser; with it where not.
    async fn adapt(&mut self) {
        let mute = WebRtc::names(&self.native, MediaKind::Audio).is_empty();
        for advertisement in [self.native.clone(), WebRtc::transcoded(&self.native)] {
            self.device.advertisement = advertisement;
            let Ok(calls) = self.calls() else { return };
            let changed = Input::Changed { device: self.device.clone() };
            if let Err(problem) = calls.input(changed).await {
                tracing::debug!(code = problem.code.as_str(), "a change of a session came too late");
            }
            let Ok(view) = calls.view(self.leg, Some(self.handler.key)).await else { return };
            let flows = |directives: &Value| read(directives).audio().is_some();
            let held = view.state == State::Answered && read(&view.client_directives).is_empty() && view.held;
            if mute || held || flows(&view.client_directives) && flows(&view.server_directives) {
                return self.direct(&view.client_directives, &view.server_directives).await;
            }
        }
    }

    pub(super) async fn direct(&mut self, client: &Value, server: &Value) {
        self.media.direct(read(client), read(server)).await;
    }
}

/// Whether directives have a stream of video.
pub(super) fn has_video(directives: &Value) -> bool {
    read(directives).streams().iter().any(|stream| stream.kind() == Some(MediaKind::Video))
}

fn read(directives: &Value) -> Directives {
    Directives::from_value(directives).map(|(directives, _)| directives).unwrap_or_default()
}
