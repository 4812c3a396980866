//! Which leg a SIP dialog is of: a REFER names calls by their dialogs (RFC 3891).

use std::collections::HashMap;
use std::sync::Mutex;

use crate::adapter::sip::ua::DialogId;
use crate::protocol::id::LegId;
use crate::service::lock;

/// The dialogs of all calls.
#[derive(Debug, Default)]
pub(super) struct Dialogs(Mutex<HashMap<LegId, DialogId>>);

impl Dialogs {
    /// A leg's dialog, as it is now.
    pub(super) fn name(&self, dialog: &DialogId, leg: LegId) {
        let mut all = lock(&self.0);
        if all.get(&leg) != Some(dialog) {
            all.insert(leg, dialog.clone());
        }
    }

    pub(super) fn forget(&self, leg: LegId) {
        lock(&self.0).remove(&leg);
    }

    /// The leg that a Replaces header names: to-tag is the tag of who receives it, ours (RFC 3891 §3).
    pub(super) fn find(&self, replaces: &str) -> Option<LegId> {
        let mut parts = replaces.split(';').map(str::trim);
        let call_id = parts.next()?;
        let (mut to, mut from) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some((name, tag)) if name.eq_ignore_ascii_case("to-tag") => to = Some(tag),
                Some((name, tag)) if name.eq_ignore_ascii_case("from-tag") => from = Some(tag),
                _ => {}
            }
        }
        let (to, from) = (to?, from?);
        let all = lock(&self.0);
        let mut found = all.iter().filter(|(_, dialog)| {
            let tags = (dialog.local_tag.as_str(), dialog.remote_tag.as_str());
            // Some user agents write the tags as they see them themselves.
            dialog.call_id == call_id && (tags == (to, from) || tags == (from, to))
        });
        found.next().map(|(leg, _)| *leg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaces_header_names_a_leg_by_all_three_of_its_dialogs_names() {
        let dialogs = Dialogs::default();
        let name = |call: &str, local: &str, remote: &str| DialogId {
            call_id: call.into(),
            local_tag: local.into(),
            remote_tag: remote.into(),
            remote_target: String::new(),
            early: false,
        };
        let (one, two) = (LegId::random(), LegId::random());
        dialogs.name(&name("a@b", "l", ""), one);
        dialogs.name(&name("a@b", "l", "r"), one);
        dialogs.name(&name("c", "l", "r"), two);
        assert_eq!(dialogs.find("a@b;to-tag=l;from-tag=r"), Some(one));
        assert_eq!(dialogs.find("c; From-Tag=r ;to-tag=l;early-only"), Some(two));
        for none in ["", "a@b", "a@b;to-tag=l", "a@b;to-tag=l;from-tag=x", "x;to-tag=l;from-tag=r"] {
            assert_eq!(dialogs.find(none), None, "{none}");
        }
        dialogs.forget(one);
        assert_eq!(dialogs.find("a@b;to-tag=l;from-tag=r"), None);
    }
}
