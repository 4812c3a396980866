//! Which leg a SIP dialog is of: a REFER names calls by their dialogs, and an INVITE takes the place of one (RFC 3891).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::adapter::sip::ua::DialogId;
use crate::protocol::id::LegId;
use crate::service::lock;

/// Dialogs that are over and still known.
const MAX_ENDED: usize = 1024;

/// The dialogs of all calls.
#[derive(Debug, Default)]
pub(super) struct Dialogs(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    live: HashMap<LegId, Named>,
    /// The newest last.
    ended: VecDeque<Named>,
}

/// A dialog as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) dialog: DialogId,
    /// The way that it goes.
    pub(super) way: String,
    /// Whether we called.
    pub(super) ours: bool,
}

impl Dialogs {
    /// A leg's dialog.
    pub(super) fn name(&self, leg: LegId, named: Named) {
        let mut all = lock(&self.0);
        if all.live.get(&leg) != Some(&named) {
            all.live.insert(leg, named);
        }
    }

    /// A leg is over.
    pub(super) fn forget(&self, leg: LegId) {
        let mut all = lock(&self.0);
        let Some(named) = all.live.remove(&leg) else { return };
        if all.ended.len() == MAX_ENDED {
            all.ended.pop_front();
        }
        all.ended.push_back(named);
    }

    /// The leg whose place an INVITE that came by this way takes; or the response that refuses it (RFC 3891 §3).
    pub(super) fn replaced(&self, header: &str, way: &str) -> Result<LegId, u16> {
        let wanted = Wanted::read(header).ok_or(400_u16)?;
        let all = lock(&self.0);
        // Nobody learns of what others have.
        let is = |named: &Named| named.way == way && wanted.is(&named.dialog);
        let mut found = all.live.iter().filter(|(_, named)| is(named));
        match (found.next(), found.next()) {
            (Some((_, named)), None) if named.dialog.early && !named.ours => Err(481),
            (Some((_, named)), None) if !named.dialog.early && wanted.early_only => Err(486),
            (Some((leg, _)), None) => Ok(*leg),
            (None, _) if all.ended.iter().any(is) => Err(603),
            _ => Err(481),
        }
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
        let mut found = all.live.iter().filter(|(_, Named { dialog, .. })| {
            let tags = (dialog.local_tag.as_str(), dialog.remote_tag.as_str());
            // Some user agents write the tags as they see them themselves.
            dialog.call_id == call_id && (tags == (to, from) || tags == (from, to))
        });
        found.next().map(|(leg, _)| *leg)
    }
}

/// What a Replaces header says.
struct Wanted<'a> {
    call_id: &'a str,
    to: &'a str,
    from: &'a str,
    early_only: bool,
}

impl<'a> Wanted<'a> {
    /// RFC 3891 §6.1: both tags are in it, and once.
    fn read(header: &'a str) -> Option<Self> {
        let mut parts = header.split(';').map(str::trim);
        let call_id = parts.next().filter(|id| !id.is_empty() && !id.contains([',', ' ']))?;
        let (mut to, mut from, mut early_only) = (None, None, false);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let tag = match name.trim() {
                name if name.eq_ignore_ascii_case("to-tag") => &mut to,
                name if name.eq_ignore_ascii_case("from-tag") => &mut from,
                name => {
                    early_only |= name.eq_ignore_ascii_case("early-only");
                    continue;
                }
            };
            if tag.replace(value.trim()).is_some() {
                return None;
            }
        }
        let tag = |tag: Option<&'a str>| tag.filter(|tag| !tag.is_empty());
        Some(Self { call_id, to: tag(to)?, from: tag(from)?, early_only })
    }

    /// RFC 3891 §3: to-tag is ours; a tag of 0 stands for none, as RFC 2543 has it.
    fn is(&self, dialog: &DialogId) -> bool {
        let same = |wanted: &str, tag: &str| wanted == tag || (wanted == "0" && tag.is_empty());
        dialog.call_id == self.call_id
            && same(self.to, &dialog.local_tag)
            && same(self.from, &dialog.remote_tag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(call: &str, local: &str, remote: &str, early: bool, ours: bool) -> Named {
        let dialog = DialogId {
            call_id: call.into(),
            local_tag: local.into(),
            remote_tag: remote.into(),
            remote_target: String::new(),
            early,
        };
        Named { dialog, way: "w".into(), ours }
    }

    #[test]
    fn a_replaces_header_names_a_leg_by_all_three_of_its_dialogs_names() {
        let dialogs = Dialogs::default();
        let (one, two) = (LegId::random(), LegId::random());
        dialogs.name(one, named("a@b", "l", "", true, false));
        dialogs.name(one, named("a@b", "l", "r", false, false));
        dialogs.name(two, named("c", "l", "r", false, false));
        assert_eq!(dialogs.find("a@b;to-tag=l;from-tag=r"), Some(one));
        assert_eq!(dialogs.find("c; From-Tag=r ;to-tag=l;early-only"), Some(two));
        for none in ["", "a@b", "a@b;to-tag=l", "a@b;to-tag=l;from-tag=x", "x;to-tag=l;from-tag=r"] {
            assert_eq!(dialogs.find(none), None, "{none}");
        }
        dialogs.forget(one);
        assert_eq!(dialogs.find("a@b;to-tag=l;from-tag=r"), None);
    }

    #[test]
    fn an_invite_takes_the_place_of_a_dialog_of_its_own_way_only() {
        let dialogs = Dialogs::default();
        let [up, calling, called, over, old] = std::array::from_fn(|_| LegId::random());
        dialogs.name(up, named("up", "l", "r", false, false));
        dialogs.name(calling, named("calling", "l", "r", true, true));
        dialogs.name(called, named("called", "l", "r", true, false));
        dialogs.name(old, named("old", "l", "", false, false));
        dialogs.name(over, named("over", "l", "r", false, true));
        dialogs.forget(over);
        for (header, answer) in [
            ("up;to-tag=l;from-tag=r", Ok(up)),
            ("up ; from-tag=r;x=y; To-Tag=l", Ok(up)),
            ("up;to-tag=l;from-tag=r;early-only", Err(486)),
            ("calling;to-tag=l;from-tag=r", Ok(calling)),
            ("calling;to-tag=l;from-tag=r;early-only", Ok(calling)),
            // RFC 3891 §3: only who calls may have an early dialog replaced.
            ("called;to-tag=l;from-tag=r", Err(481)),
            ("old;to-tag=l;from-tag=0", Ok(old)),
            ("over;to-tag=l;from-tag=r", Err(603)),
            ("up;to-tag=r;from-tag=l", Err(481)),
            ("up;to-tag=l;from-tag=x", Err(481)),
            ("down;to-tag=l;from-tag=r", Err(481)),
            ("up;to-tag=l", Err(400)),
            ("up;to-tag=l;to-tag=l;from-tag=r", Err(400)),
            ("up;to-tag=;from-tag=r", Err(400)),
            ("up;to-tag=l;from-tag=r,up;to-tag=l;from-tag=r", Err(400)),
            ("", Err(400)),
        ] {
            assert_eq!(dialogs.replaced(header, "w"), answer, "{header}");
        }
        assert_eq!(dialogs.replaced("up;to-tag=l;from-tag=r", "another"), Err(481));
        assert_eq!(dialogs.replaced("over;to-tag=l;from-tag=r", "another"), Err(481));
        (0..2 * MAX_ENDED).for_each(|_| {
            let leg = LegId::random();
            dialogs.name(leg, named("x", "l", "r", false, false));
            dialogs.forget(leg);
        });
        assert_eq!(lock(&dialogs.0).ended.len(), MAX_ENDED);
    }

    proptest! {
        #[test]
        fn any_replaces_header_is_read_without_panic(text in "[ -~é]{0,60}", more in "(;(to|from)-tag=[a-z;=,]{0,6}){0,3}") {
            let dialogs = Dialogs::default();
            let _ = (dialogs.find(&text), dialogs.replaced(&format!("{text}{more}"), "w"));
        }
    }
}
