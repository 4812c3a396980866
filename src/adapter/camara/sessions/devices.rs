//! A registration is a RIPT handler: its user's calls ring there, and become sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::{Invited, Sessions};
use crate::adapter::camara::registration::Registration;
use crate::adapter::webrtc::WebRtc;
use crate::protocol::id::{LegId, TgId};
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{HandlerDescription, Tap, TapReason, split_path};
use crate::service::lock;
use crate::service::registry::Handler;

/// The tasks that listen for registered devices.
#[derive(Debug, Default)]
pub(super) struct Devices(Mutex<HashMap<Uuid, AbortHandle>>);

impl Drop for Devices {
    fn drop(&mut self) {
        lock(&self.0).values().for_each(AbortHandle::abort);
    }
}

/// A handler's own name for itself.
pub(super) fn handler_id(registration: Uuid) -> String {
    format!("camara:{registration}")
}

impl Sessions {
    /// A device is registered: from now on it rings.
    pub(in crate::adapter::camara) async fn register(
        self: &Arc<Self>,
        registration: &Registration,
        tg: &TgId,
    ) -> Result<(), Problem> {
        let wanted = HandlerDescription {
            uri: None,
            handler_id: handler_id(registration.id),
            advertisement: Value::String(WebRtc::advertisement().to_string()),
            name: None,
            inbound: None,
        };
        let numbers = vec![registration.number.as_str().to_owned()];
        let user = registration.user.to_string();
        let (handler, _) = self.shared.service.registry.enter(user, numbers, tg, &wanted).await?;
        self.listen(registration.clone(), handler)
    }

    /// After a restart: the handler is there still.
    pub(in crate::adapter::camara) fn resume(
        self: &Arc<Self>,
        registration: &Registration,
    ) -> Result<(), Problem> {
        let handler = self.handler(registration)?;
        self.listen(registration.clone(), handler)
    }

    /// Handlers of registrations that are no more go.
    pub(in crate::adapter::camara) async fn tidy(&self, active: &[Registration]) {
        let named: Vec<_> = active.iter().map(|one| handler_id(one.id)).collect();
        for handler in self.shared.service.registry.named("camara:") {
            if !named.contains(&handler.handler_id)
                && let Err(problem) = self.shared.service.registry.withdraw(handler.key).await
            {
                tracing::warn!(code = problem.code.as_str(), "a handler could not be withdrawn");
            }
        }
    }

    /// A registration has ended: the device rings no more; its calls go on.
    pub(in crate::adapter::camara) fn unregister(self: &Arc<Self>, registration: &Registration) {
        if let Some(listening) = lock(&self.devices.0).remove(&registration.id) {
            listening.abort();
        }
        let Ok(handler) = self.handler(registration) else { return };
        let service = self.shared.service.clone();
        tokio::spawn(async move {
            // What stays after a failing store is withdrawn at the next start.
            if let Err(problem) = service.registry.withdraw(handler.key).await {
                tracing::warn!(
                    code = problem.code.as_str(),
                    "a registration's handler could not be withdrawn"
                );
            }
        });
    }

    /// The handler of a registration.
    pub(super) fn handler(&self, registration: &Registration) -> Result<Handler, Problem> {
        let found = self.shared.service.registry.resolve(
            registration.user.as_str(),
            None,
            &handler_id(registration.id),
        );
        found.ok_or_else(|| Problem::new(Code::NoSuchHandler, "the registration has no handler"))
    }

    fn listen(self: &Arc<Self>, registration: Registration, handler: Handler) -> Result<(), Problem> {
        let service = self.shared.service.clone();
        let user = registration.user.to_string();
        let Some((_, mut taps)) = service.push.open(&user, Some(handler.key)) else {
            return Err(Problem::new(Code::TooMany, "this user has too many devices that listen for calls"));
        };
        let sessions = Arc::downgrade(self);
        let id = registration.id;
        let listening = tokio::spawn(async move {
            // What rang before this began, as after a restart, is told too.
            let mut waiting = service.ringing(&user, Some(handler.key)).await;
            loop {
                for tap in std::mem::take(&mut waiting) {
                    let (Some(sessions), Some(invited)) =
                        (sessions.upgrade(), invited(&tap, &registration, &handler))
                    else {
                        continue;
                    };
                    sessions.invite(invited);
                }
                match taps.recv().await {
                    Some(tap) => waiting.push(tap),
                    // Too many taps at once: what rings still is told.
                    None => match service.push.open(&user, Some(handler.key)) {
                        Some((_, again)) => {
                            taps = again;
                            waiting = service.ringing(&user, Some(handler.key)).await;
                        }
                        None => return,
                    },
                }
            }
        });
        if let Some(before) = lock(&self.devices.0).insert(id, listening.abort_handle()) {
            before.abort();
        }
        Ok(())
    }
}

fn invited(tap: &Tap, registration: &Registration, handler: &Handler) -> Option<Invited> {
    if tap.reason != TapReason::Incoming {
        return None;
    }
    let (tg, leg) = split_path(&tap.call, "calls")?;
    let (tg, leg): (TgId, LegId) = (tg.parse().ok()?, leg.parse().ok()?);
    Some(Invited { registration: registration.clone(), handler: handler.clone(), tg, leg })
}
