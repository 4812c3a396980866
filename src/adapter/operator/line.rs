//! One call at an operator, as the call's owner holds it.

use std::sync::Arc;

use super::account::Account;
use super::book::Ear;
use super::bridge::Bridge;
use super::media::Media;
use crate::adapter::mapping::Status;
use crate::service::gateway::{Line, OurEnd, Pending};

/// Which way a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It was placed here: our leg is the callee's.
    Leaving,
    /// It comes from the operator: our leg is the caller's.
    Arriving,
}

/// A call that an operator carries on.
pub(super) struct OperatorLine {
    pub(super) account: Arc<Account>,
    pub(super) ear: Ear,
    pub(super) media: Media,
    pub(super) side: Side,
    pub(super) offer: Option<String>,
}

impl OperatorLine {
    /// `offer`: ours of a call that leaves, theirs of one that arrives.
    pub(super) fn new(
        account: &Arc<Account>,
        ear: Ear,
        media: Media,
        side: Side,
        offer: Option<String>,
    ) -> Self {
        Self { account: account.clone(), ear, media, side, offer }
    }
}

impl Line for OperatorLine {
    fn carry(self: Box<Self>, end: OurEnd) -> Pending<()> {
        Box::pin(Bridge::new(*self, end).run())
    }

    fn abandon(self: Box<Self>) -> Pending<()> {
        Box::pin(async move { self.account.end(self.ear.session, Status::SessionCancelled).await })
    }
}
