//! Offer and answer of one dialog (RFC 3264; which message carries what: RFC 6337 §2.2, table 1). A refused offer leaves what was
//! agreed before (RFC 3261 §14.1).

use super::ServerId;

/// What carries an offer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// INVITE: answered by a reliable 1xx or the 2xx.
    Invite,
    /// UPDATE: answered by its 2xx.
    Update,
    /// A reliable 1xx, answered by PRACK, or the 2xx of an INVITE, answered by ACK.
    Response,
}

/// What brought an offer of the far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearer {
    /// The INVITE that came in first: answered by a reliable 1xx or the 2xx.
    Invite,
    /// A re-INVITE, an UPDATE, a PRACK: answered by its 2xx.
    Request(ServerId),
    /// A reliable response to our INVITE: answered by PRACK.
    Reliable {
        /// Its RSeq.
        rseq: u32,
        /// The INVITE's CSeq.
        seq: u32,
    },
    /// The 2xx of our INVITE: answered by ACK.
    Success {
        /// The INVITE's CSeq.
        seq: u32,
    },
}

/// Why the far side's offer can't be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// Ours is out: 491.
    Glare,
    /// Theirs isn't answered: 500 with Retry-After.
    Second,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The first INVITE had no offer, and none was made since.
    Blank,
    /// None is out.
    Stable,
    /// Ours is out; `early`: the answer of an unreliable response, which isn't yet one (RFC 3261 §13.2.1).
    Ours { sdp: String, by: Carrier, early: Option<String> },
    /// Theirs is to be answered.
    Theirs { sdp: String, by: Bearer },
}

/// The state of offer and answer, and what was agreed.
#[derive(Clone, Debug)]
pub(super) struct Negotiation {
    state: State,
    local: Option<String>,
    remote: Option<String>,
}

impl Negotiation {
    fn new(state: State) -> Self {
        Self { state, local: None, remote: None }
    }

    /// Of an INVITE of ours, with or without an offer.
    pub(super) fn placed(offer: Option<&str>) -> Self {
        Self::new(match offer {
            Some(sdp) => State::Ours { sdp: sdp.to_owned(), by: Carrier::Invite, early: None },
            None => State::Blank,
        })
    }

    /// Of a dialog that stands, with what we are about to offer.
    pub(super) fn resumed(local: &str) -> Self {
        Self { state: State::Stable, local: Some(local.to_owned()), remote: None }
    }

    /// Of an INVITE that came in.
    pub(super) fn arrived(offer: Option<String>) -> Self {
        Self::new(match offer {
            Some(sdp) => State::Theirs { sdp, by: Bearer::Invite },
            None => State::Blank,
        })
    }

    /// Whether the first INVITE's offer hasn't been made.
    pub(super) fn blank(&self) -> bool {
        self.state == State::Blank
    }

    /// Whether nobody's offer is out, after a first exchange.
    pub(super) fn stable(&self) -> bool {
        self.state == State::Stable
    }

    /// What our newest offer is carried by.
    pub(super) fn ours(&self) -> Option<Carrier> {
        match self.state {
            State::Ours { by, .. } => Some(by),
            _ => None,
        }
    }

    /// What brought the offer that waits for our answer.
    pub(super) fn theirs(&self) -> Option<Bearer> {
        match self.state {
            State::Theirs { by, .. } => Some(by),
            _ => None,
        }
    }

    /// That offer.
    pub(super) fn their_offer(&self) -> Option<&str> {
        match &self.state {
            State::Theirs { sdp, .. } => Some(sdp),
            _ => None,
        }
    }

    /// Our description, as agreed.
    pub(super) fn local(&self) -> Option<&str> {
        self.local.as_deref()
    }

    /// The far side's.
    pub(super) fn remote(&self) -> Option<&str> {
        self.remote.as_deref()
    }

    /// We offer. False: not now.
    pub(super) fn offer(&mut self, sdp: &str, by: Carrier) -> bool {
        let may = self.stable() || (self.blank() && by == Carrier::Response);
        if may {
            self.state = State::Ours { sdp: sdp.to_owned(), by, early: None };
        }
        may
    }

    /// An unreliable response had a description. True: it is a new one.
    pub(super) fn early(&mut self, answer: &str) -> bool {
        match &mut self.state {
            State::Ours { by: Carrier::Invite, early, .. } if early.as_deref() != Some(answer) => {
                *early = Some(answer.to_owned());
                true
            }
            _ => false,
        }
    }

    /// The answer to our offer came. None: there was none to be answered by this; else the answer, which is the early one where
    /// the message had none (RFC 3261 §13.2.1: the first description is the answer).
    pub(super) fn answered(&mut self, by: Carrier, answer: Option<String>) -> Option<String> {
        let State::Ours { sdp, by: carrier, early } = &mut self.state else { return None };
        if *carrier != by {
            return None;
        }
        let answer = answer.or_else(|| early.take())?;
        self.local = Some(std::mem::take(sdp));
        self.remote = Some(answer.clone());
        self.state = State::Stable;
        Some(answer)
    }

    /// Our offer was refused. False: none was out by this.
    pub(super) fn refused(&mut self, by: Carrier) -> bool {
        let ours = self.ours() == Some(by);
        if ours {
            self.state = State::Stable;
        }
        ours
    }

    /// The far side offers.
    pub(super) fn offered(&mut self, sdp: String, by: Bearer) -> Result<(), Clash> {
        match &self.state {
            State::Ours { .. } => Err(Clash::Glare),
            State::Theirs { .. } => Err(Clash::Second),
            // RFC 3311 §5.1: no UPDATE with an offer before the first exchange.
            State::Blank if matches!(by, Bearer::Request(_)) => Err(Clash::Second),
            State::Blank | State::Stable => {
                self.state = State::Theirs { sdp, by };
                Ok(())
            }
        }
    }

    /// We answer.
    pub(super) fn answer(&mut self, sdp: &str) -> Option<Bearer> {
        let State::Theirs { sdp: offer, by } = &mut self.state else { return None };
        let by = *by;
        self.remote = Some(std::mem::take(offer));
        self.local = Some(sdp.to_owned());
        self.state = State::Stable;
        Some(by)
    }

    /// We refuse their offer, or it was taken back.
    pub(super) fn refuse(&mut self) -> Option<Bearer> {
        let by = self.theirs()?;
        self.state = State::Stable;
        Some(by)
    }
}

/// RFC 3264 §6: an answer that takes none of the streams, port 0 each; for an offer in a 2xx, which can only be answered (RFC 3261
/// §13.2.2.4).
pub(super) fn none_of(offer: &str) -> String {
    let mut answer = String::from("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n");
    for media in offer.lines().filter_map(|l| l.strip_prefix("m=")).take(64) {
        let mut words = media.split_whitespace();
        let kind = words.next().unwrap_or("audio");
        let rest = words.skip(1).collect::<Vec<_>>().join(" ");
        answer.push_str(&format!("m={kind} 0 {rest}\r\n"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6337 §2.2, table 1, each row from both ends: who offers by what, and what answers.
    #[test]
    fn each_row_of_the_table_ends_in_agreement() {
        for (carrier, first) in [
            (Carrier::Invite, Negotiation::placed(Some("ours"))),
            (Carrier::Response, {
                let mut talk = Negotiation::arrived(None);
                assert!(talk.offer("ours", Carrier::Response));
                talk
            }),
            (Carrier::Update, {
                let mut talk = agreed();
                assert!(talk.offer("ours", Carrier::Update));
                talk
            }),
        ] {
            let mut talk = first;
            assert_eq!(
                talk.answered(carrier, Some("theirs".into())).as_deref(),
                Some("theirs"),
                "{carrier:?}"
            );
            assert_eq!((talk.local(), talk.remote()), (Some("ours"), Some("theirs")));
            assert!(talk.stable());
        }
        for (bearer, first) in [
            (Bearer::Invite, Negotiation::arrived(Some("theirs".into()))),
            (Bearer::Reliable { rseq: 1, seq: 1 }, Negotiation::placed(None)),
            (Bearer::Success { seq: 1 }, Negotiation::placed(None)),
            (Bearer::Request(7), agreed()),
        ] {
            let mut talk = first;
            if bearer != Bearer::Invite {
                assert_eq!(talk.offered("theirs".into(), bearer), Ok(()), "{bearer:?}");
            }
            assert_eq!(talk.answer("ours"), Some(bearer));
            assert_eq!((talk.local(), talk.remote()), (Some("ours"), Some("theirs")));
        }
    }

    fn agreed() -> Negotiation {
        let mut talk = Negotiation::placed(Some("a"));
        talk.answered(Carrier::Invite, Some("b".into())).unwrap();
        talk
    }

    #[test]
    fn an_offer_while_another_is_out_is_a_clash_and_changes_nothing() {
        let mut ours = agreed();
        assert!(ours.offer("c", Carrier::Invite));
        assert_eq!(ours.offered("d".into(), Bearer::Request(1)), Err(Clash::Glare));
        assert!(!ours.offer("e", Carrier::Update));
        let mut theirs = agreed();
        theirs.offered("d".into(), Bearer::Request(1)).unwrap();
        assert_eq!(theirs.offered("e".into(), Bearer::Request(2)), Err(Clash::Second));
        assert!(!theirs.offer("c", Carrier::Invite));
        assert_eq!(Negotiation::placed(None).offered("d".into(), Bearer::Request(1)), Err(Clash::Second));
        assert!(!Negotiation::placed(None).offer("c", Carrier::Update));
    }

    #[test]
    fn a_refused_offer_leaves_what_was_agreed() {
        let mut talk = agreed();
        talk.offer("c", Carrier::Invite);
        assert!(!talk.refused(Carrier::Update), "another carrier's refusal");
        assert!(talk.refused(Carrier::Invite));
        assert_eq!((talk.local(), talk.remote()), (Some("a"), Some("b")));
        talk.offered("d".into(), Bearer::Request(1)).unwrap();
        assert_eq!(talk.refuse(), Some(Bearer::Request(1)));
        assert_eq!((talk.local(), talk.remote()), (Some("a"), Some("b")));
    }

    #[test]
    fn an_early_answer_counts_where_the_final_one_is_missing_and_yields_to_another() {
        let mut talk = Negotiation::placed(Some("a"));
        assert!(talk.early("b"));
        assert!(!talk.early("b"));
        assert!(!talk.stable());
        assert_eq!(talk.clone().answered(Carrier::Invite, None).as_deref(), Some("b"));
        assert_eq!(talk.answered(Carrier::Invite, Some("c".into())).as_deref(), Some("c"));
        assert_eq!(Negotiation::placed(Some("a")).answered(Carrier::Invite, None), None);
    }

    #[test]
    fn an_answer_that_takes_nothing_has_each_stream_at_port_0() {
        let answer = none_of("v=0\r\nm=audio 4000 RTP/AVP 0 8\r\na=x\r\nm=video 4002/2 RTP/SAVP 96\r\n");
        assert!(answer.contains("m=audio 0 RTP/AVP 0 8\r\nm=video 0 RTP/SAVP 96\r\n"), "{answer}");
    }
}
