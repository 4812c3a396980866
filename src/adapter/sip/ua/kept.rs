//! A confirmed dialog as it is written down, and its user agent after a restart: it offers anew at once, by which both sides agree
//! again, and by which it is found out whether the far side is still there (RFC 3261 §12.2.1.2).

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::dialog::Dialog;
use super::offer::Negotiation;
use super::session::{KeptSession, SessionTimer};
use super::timer::Random;
use super::{Phase, Profile, Ua, header, uac};

/// CSeqs of ours that are written down at once. RFC 3261 §12.2.1.1: each is higher than the one before, by how much is free.
const BLOCK: u32 = 16;

/// A confirmed dialog. What was offered and answered is not in it: the next offer says that again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    call_id: String,
    /// Call-ID is ours: we sent the first INVITE.
    ours: bool,
    /// Our From or To, with its tag.
    local: String,
    local_tag: String,
    remote: String,
    remote_tag: String,
    /// The Contact that the far side knows.
    contact: String,
    routes: Vec<String>,
    target: String,
    /// No request of ours had a higher CSeq.
    local_seq: u32,
    /// The far side's was at least this.
    remote_seq: Option<u32>,
    updates: bool,
    session: KeptSession,
}

impl Kept {
    /// Whether it would make no difference to write this one down instead: requests of the far side alone are counted on.
    pub fn serves(&self, newer: &Self) -> bool {
        Self { remote_seq: newer.remote_seq, ..self.clone() } == *newer
    }
}

impl Ua {
    /// A call that stands, to be written down.
    pub fn kept(&self) -> Option<Kept> {
        let dialog = self.dialogs.first().filter(|_| self.phase == Phase::Up)?;
        Some(Kept {
            call_id: self.call_id.clone(),
            ours: self.ours,
            local: self.local.clone(),
            local_tag: self.local_tag.clone(),
            remote: dialog.remote.clone(),
            remote_tag: dialog.tag.clone(),
            contact: self.profile.contact.clone(),
            routes: dialog.routes.clone(),
            target: dialog.target.to_string(),
            local_seq: (dialog.local_seq / BLOCK + 1).saturating_mul(BLOCK),
            remote_seq: dialog.remote_seq,
            updates: dialog.updates,
            session: self.session.kept(),
        })
    }

    /// The call that was written down, with a fresh offer in the outputs. Of the profile, who and whom are as they were. None: its
    /// remote target can't be read.
    pub fn resume(now: Instant, profile: Profile, kept: Kept, offer: &str) -> Option<Self> {
        let target = header::uri(&kept.target)?;
        let random = Random::new(profile.seed);
        let mut ua = uac::blank(Profile { contact: kept.contact, ..profile }, kept.call_id, "", random);
        (ua.local, ua.local_tag, ua.ours) = (kept.local, kept.local_tag, kept.ours);
        (ua.phase, ua.probes) = (Phase::Up, true);
        ua.session = SessionTimer::resumed(ua.profile.min_se, kept.session);
        ua.transfers.resume();
        ua.dialogs.push(Dialog {
            tag: kept.remote_tag.clone(),
            remote: kept.remote,
            routes: kept.routes,
            target,
            local_seq: kept.local_seq,
            remote_seq: kept.remote_seq,
            updates: kept.updates,
            rseq: None,
            talk: Negotiation::resumed(offer),
        });
        // It lasts from now on, and is refreshed by the offer.
        ua.session_runs(now);
        ua.reinvite(&kept.remote_tag, offer, false);
        Some(ua)
    }
}
