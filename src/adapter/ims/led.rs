//! A call that is led on to others: whom it may be led to, and who was called first, told in Diversion (RFC 5806) and History-Info
//! (RFC 7044), of which networks read one or the other.

use std::collections::VecDeque;

use super::phone::{Phone, sip_uri};
use super::way::Way;
use crate::protocol::number::{Destinations, Number};

/// How many a call may be led on to.
const MOST: usize = 5;

/// Why it is led on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Moved at once: all calls are.
    Moved,
    /// Moved while it rang.
    Deflected,
    /// Handed on in the call, for which there is no word.
    Unknown,
}

impl Cause {
    /// RFC 5806 §5
    const fn diversion(self) -> &'static str {
        match self {
            Self::Moved => "unconditional",
            Self::Deflected => "deflection",
            Self::Unknown => "unknown",
        }
    }

    /// RFC 4458 §2
    const fn code(self) -> Option<u16> {
        match self {
            Self::Moved => Some(302),
            Self::Deflected => Some(487),
            Self::Unknown => None,
        }
    }
}

/// Whom a call is for.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    /// Who was called first, and who is called now.
    first: Number,
    to: Number,
    /// Why it isn't the first any more.
    why: Option<Cause>,
    waiting: VecDeque<(Number, Cause)>,
    /// All who were named, so that none is called twice.
    named: Vec<Number>,
}

impl Targets {
    pub(super) fn new(to: Number) -> Self {
        Self { first: to.clone(), named: vec![to.clone()], to, why: None, waiting: VecDeque::new() }
    }

    pub(super) const fn first(&self) -> &Number {
        &self.first
    }

    pub(super) const fn to(&self) -> &Number {
        &self.to
    }

    /// Takes up whom the far side names, in this order: numbers that the way leads to, that who pays may call, and that aren't
    /// ours, to which it would come back.
    pub(super) fn add(&mut self, contacts: &[String], way: &Way, rules: &Destinations, why: Cause) {
        let home = way.home();
        let numbers = contacts.iter().filter_map(|uri| Phone::read(uri, &home)?.number);
        let allowed = |to: &Number| {
            let for_help = way.settings.emergency.as_ref() == Some(to);
            way.takes(to) && !way.owns(to) && !for_help && rules.allow(to)
        };
        self.take(numbers.filter(allowed), why);
    }

    fn take(&mut self, numbers: impl Iterator<Item = Number>, why: Cause) {
        for number in numbers {
            if self.named.len() <= MOST && !self.named.contains(&number) {
                self.named.push(number.clone());
                self.waiting.push_back((number, why));
            }
        }
    }

    /// Goes on to the next one; false: there is none.
    pub(super) fn next(&mut self) -> bool {
        let Some((to, why)) = self.waiting.pop_front() else { return false };
        (self.to, self.why) = (to, Some(why));
        true
    }

    /// The headers that say who was called before, or who hands on (`by`). `domain`: the far side's.
    pub(super) fn told(&self, by: Option<&Number>, domain: &str) -> Vec<(String, String)> {
        let mut steps: Vec<(&Number, Cause)> = by.map(|by| (by, Cause::Unknown)).into_iter().collect();
        steps.extend(self.why.map(|why| (&self.first, why)));
        if steps.is_empty() {
            return Vec::new();
        }
        // RFC 5806 §3: the newest stands first.
        let diversions = steps
            .iter()
            .rev()
            .map(|(by, why)| format!("<{}>;reason={}", sip_uri(by, domain), why.diversion()));
        let diversion = diversions.collect::<Vec<_>>().join(", ");
        // RFC 7044 §5: each is below the one before it, from whom it was led on to another user (`mp`).
        let (mut history, mut index, mut cause) = (String::new(), "1".to_owned(), String::new());
        for (by, why) in &steps {
            history.push_str(&entry(by, domain, &cause, &index));
            history.push_str(", ");
            cause = why.code().map(|code| format!(";cause={code}")).unwrap_or_default();
            index.push_str(".1");
        }
        history.push_str(&entry(&self.to, domain, &cause, &index));
        vec![("Diversion".to_owned(), diversion), ("History-Info".to_owned(), history)]
    }
}

fn entry(who: &Number, domain: &str, cause: &str, index: &str) -> String {
    let from = index.strip_suffix(".1").map(|before| format!(";mp={before}")).unwrap_or_default();
    format!("<{}{cause}>;index={index}{from}", sip_uri(who, domain))
}

#[cfg(test)]
mod tests {
    use super::super::caller::{Incoming, Why};
    use super::super::phone::Home;
    use super::*;

    fn number(last: u32) -> Number {
        format!("+1555000{last}").parse().unwrap()
    }

    fn read(name: &str, value: &str) -> Incoming {
        let text = format!(
            "INVITE tel:+15550003 SIP/2.0\r\nFrom: <tel:+15550001>;tag=1\r\nTo: <tel:+15550002>\r\n{name}: {value}\r\n\r\n"
        );
        let request = rsipstack::sip::Request::try_from(text.as_str()).unwrap();
        Incoming::read(&request, false, &Home { domain: "ims.test".into(), ..Home::default() })
    }

    #[test]
    fn who_was_called_first_is_read_again_from_either_header() {
        for (why, reads) in [(Cause::Moved, Why::Unconditional), (Cause::Deflected, Why::Deflection)] {
            let mut targets = Targets::new(number(2));
            assert_eq!(targets.told(None, "ims.test"), []);
            targets.take([number(3)].into_iter(), why);
            assert!(targets.next() && !targets.next());
            for (name, value) in targets.told(None, "ims.test") {
                let told = read(&name, &value);
                let [diversion] = &told.diversions[..] else { panic!("one diversion: {told:?}") };
                assert_eq!((&diversion.by, diversion.reason), (&Some(number(2)), reads), "{name}");
            }
            // Who handed the caller on before stands before.
            let both = targets.told(Some(&number(9)), "ims.test");
            let told = read(&both[0].0, &both[0].1);
            let by: Vec<_> = told.diversions.iter().map(|it| it.by.clone()).collect();
            assert_eq!(by, [Some(number(9)), Some(number(2))]);
            let told = read(&both[1].0, &both[1].1);
            let way: Vec<_> = told.history.iter().map(|it| (it.to.clone(), it.index.as_str())).collect();
            assert_eq!(way, [(Some(number(9)), "1"), (Some(number(2)), "1.1"), (Some(number(3)), "1.1.1")]);
        }
    }

    #[test]
    fn nobody_is_called_twice_and_no_more_than_five_are() {
        let mut targets = Targets::new(number(0));
        targets.take([3, 0, 1, 3].map(number).into_iter(), Cause::Moved);
        targets.take((0..9).map(number), Cause::Moved);
        let mut called = Vec::new();
        while targets.next() {
            called.push(targets.to().clone());
        }
        assert_eq!((called, targets.first()), ([3, 1, 2, 4, 5].map(number).to_vec(), &number(0)));
    }
}
