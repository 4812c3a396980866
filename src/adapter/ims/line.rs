//! One SIP call, as the call's owner holds it.

use std::sync::{Arc, Mutex};

use super::bridge::{Begun, Bridge};
use crate::adapter::sip::ua::Command;
use crate::service::gateway::{Line, OurEnd, Pending};
use crate::service::lock;

/// A SIP call that a leg is being found for; whoever has no use for it ends it.
#[derive(Clone)]
pub(super) struct SipLine(Arc<Mutex<Option<Begun>>>);

impl SipLine {
    pub(super) fn new(begun: Begun) -> Self {
        Self(Arc::new(Mutex::new(Some(begun))))
    }

    /// Ends it, if nobody carries it.
    pub(super) fn end(&self, command: Command) {
        if let Some(begun) = lock(&self.0).take() {
            begun.agent.end(command);
        }
    }
}

impl Line for SipLine {
    fn carry(self: Box<Self>, end: OurEnd) -> Pending<()> {
        let begun = lock(&self.0).take();
        Box::pin(async move {
            if let Some(begun) = begun {
                Bridge::run(begun, end).await;
            }
        })
    }

    fn abandon(self: Box<Self>) -> Pending<()> {
        self.end(Command::End { reason: None });
        Box::pin(std::future::ready(()))
    }
}
