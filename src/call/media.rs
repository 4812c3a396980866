//! What the call means for media: directives, and who may send to whom.

use super::Call;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::codec::PayloadType;
use crate::protocol::directive::{Directives, common_media};
use crate::protocol::event::State;
use crate::protocol::id::{HandlerKey, LegId};

/// Who may send to whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaPlan {
    /// Each leg's part.
    pub legs: Vec<LegMedia>,
}

/// One leg's part in the media.
#[derive(Clone, Debug, PartialEq)]
pub struct LegMedia {
    /// The leg.
    pub leg: LegId,
    /// Whose media goes on to the peer; media of its other devices is acknowledged and dropped.
    pub speaker: Option<HandlerKey>,
    /// Who hears the peer; none: all devices of the leg that have media open.
    pub listener: Option<HandlerKey>,
    /// Who hears this leg, once it may be heard.
    pub peer: Option<LegId>,
    /// What its client sends.
    pub sends: Directives,
    /// What its client is sent.
    pub receives: Directives,
    /// Whether it is over: sessions are to be closed.
    pub over: bool,
}

impl Call {
    /// The advertisement by which a leg takes part: that of the device which carries it, or what those that
    /// ring share, or, where they share nothing that the other side takes, the first that fits.
    fn speaks(&self, at: usize, other: usize) -> Option<Advertisement> {
        let mine = self.legs[at].candidates();
        let theirs = self.legs[other].candidates();
        let shared = Advertisement::shared(&mine);
        let fits = |mine: &Advertisement| theirs.iter().any(|their| common_media(mine, their));
        if theirs.is_empty() || fits(&shared) {
            return (!shared.is_empty()).then_some(shared);
        }
        mine.into_iter().find(|m| fits(m)).cloned()
    }

    /// What a leg's client sends and what it is sent.
    pub(super) fn directives(&self, at: usize) -> (Directives, Directives) {
        let nothing = || (Directives::default(), Directives::default());
        let leg = &self.legs[at];
        let Some(peer) = self.peer(leg.id).filter(|_| leg.live()) else { return nothing() };
        // wire §4: the server answers a hold with directives without streams, both ways.
        if leg.held || self.legs[peer].held {
            return nothing();
        }
        match (self.speaks(at, peer), self.speaks(peer, at)) {
            // What the server offers towards a leg is what the other leg's handler can do.
            (Some(mine), Some(theirs)) => {
                (Directives::compute(&mine, &theirs), Directives::compute(&theirs, &mine))
            }
            _ => nothing(),
        }
    }

    pub(super) fn takes_telephone_event(&self, at: usize) -> bool {
        let (_, server) = self.directives(at);
        server.streams().iter().any(|s| s.allows(PayloadType::TELEPHONE_EVENT))
    }

    pub(super) fn media_plan(&self) -> MediaPlan {
        let legs = (0..self.legs.len()).map(|at| {
            let leg = &self.legs[at];
            let peer = self.peer(leg.id).filter(|_| leg.live());
            let answered = leg.state == State::Answered;
            // wire §5 "Relay": before the answer media goes to the caller only, from one branch.
            let speaker = match answered {
                true => leg.handler,
                false => leg.progress,
            };
            let heard = peer.filter(|_| speaker.is_some() && (answered || leg.progress.is_some()));
            let heard = heard.filter(|p| self.legs[*p].state != State::Ended);
            let (sends, receives) = self.directives(at);
            LegMedia {
                leg: leg.id,
                speaker,
                listener: leg.handler,
                peer: heard.map(|p| self.legs[p].id),
                sends,
                receives,
                over: !leg.live(),
            }
        });
        MediaPlan { legs: legs.collect() }
    }
}
