//! Calls that stand, as they are written down, and after a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Telephony;
use super::bridge::{Begun, Bridge, Side};
use super::line::SipLine;
use super::media::Media;
use super::way::{MIN_SE, Way};
use crate::adapter::sip::ua::{self, Profile, Reliable};
use crate::adapter::sip::{Agent, PRODUCT, rtp};

/// Where a call went or came from, and how it stands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Record {
    /// The way's name.
    telephony: String,
    /// None: nobody has answered it yet, and it doesn't outlive its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<Standing>,
}

/// A call that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Standing {
    side: Side,
    dialog: ua::Kept,
    media: rtp::Kept,
    /// Our side holds, or is about to.
    holds: bool,
}

impl Standing {
    /// Whether it would make no difference to write this one down instead.
    fn serves(&self, newer: &Self) -> bool {
        let Self { side, media, holds, .. } = self;
        (side, media, holds) == (&newer.side, &newer.media, &newer.holds) && self.dialog.serves(&newer.dialog)
    }
}

/// The record of a call by this way that nobody has answered yet.
pub(super) fn begun(way: &Way) -> Value {
    written(way, None)
}

fn written(way: &Way, call: Option<Standing>) -> Value {
    serde_json::json!(Record { telephony: way.name.clone(), call })
}

impl Bridge {
    /// Writes down what a restart needs, where that has changed.
    pub(super) async fn keep(&mut self) {
        let (Some(dialog), Some(media)) = (self.agent.kept.now(), self.media.leg.kept()) else { return };
        let now = Standing { side: self.side, dialog, media, holds: self.holds };
        if self.over || self.written.as_ref().is_some_and(|before| before.serves(&now)) {
            return;
        }
        self.end.keep(written(&self.way, Some(now.clone()))).await;
        self.written = Some(now);
    }
}

impl Telephony {
    /// Takes a call up again: its dialog and its ports are this server's before anybody is heard.
    pub(super) fn take_up(&self, record: Value) -> Option<SipLine> {
        let Record { telephony, call } = serde_json::from_value(record).ok()?;
        let Standing { side, dialog, media, holds } = call?;
        let Some(way) = self.way(&telephony).cloned() else {
            tracing::warn!(way = telephony, "a call went by a way that is no longer configured");
            return None;
        };
        let media = Media::resume(&way.ports, media);
        let media = media.inspect_err(|error| tracing::warn!(%error, "no ports for a call's media")).ok()?;
        let offer = media.leg.reoffer(holds);
        let agent = Agent::resume(&way.stack, profile(&way), dialog, &offer)?;
        let dialogs = Arc::clone(&self.dialogs);
        let (attempt, answer, resumed) = (None, None, Some(holds));
        Some(SipLine::new(Begun { way, agent, media, side, dialogs, attempt, answer, resumed }))
    }
}

/// What is not in the dialog itself.
fn profile(way: &Way) -> Profile {
    Profile {
        target: String::new(),
        from: String::new(),
        to: String::new(),
        contact: String::new(),
        route: Vec::new(),
        headers: Vec::new(),
        reliable: Reliable::Supported,
        session_expires: way.settings.session_expires,
        min_se: MIN_SE,
        credentials: way.login(),
        product: PRODUCT.to_owned(),
        seed: uuid::Uuid::new_v4().as_u128(),
    }
}
