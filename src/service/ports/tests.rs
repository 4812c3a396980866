use std::sync::atomic::AtomicBool;

use super::*;
use crate::media::relay::Drops;
use crate::protocol::chunk::{Chunk, MediaHeader, encode};
use crate::protocol::directive::Directives;

const PHONE: HandlerKey = HandlerKey::from_u128(1);
const TABLET: HandlerKey = HandlerKey::from_u128(2);

/// A way to a device that only notes what goes over it.
#[derive(Default)]
struct Way {
    session: bool,
    broken: AtomicBool,
    sent: Mutex<Vec<Vec<u8>>>,
    closed: AtomicBool,
}

impl MediaPath for Way {
    fn send(&self, chunk: &[u8]) -> bool {
        lock(&self.sent).push(chunk.to_vec());
        !self.broken.load(Ordering::Relaxed)
    }

    fn close(&self, _reason: &str) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn is_session(&self) -> bool {
        self.session
    }
}

impl Way {
    fn session() -> Arc<Self> {
        Arc::new(Self { session: true, ..Self::default() })
    }

    fn byways() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The media that went over it since the last time.
    fn media(&self) -> Vec<Vec<u8>> {
        let all = std::mem::take(&mut *lock(&self.sent));
        let is_media = |bytes: &Vec<u8>| Chunk::parse(bytes).is_ok_and(|c| c.media().is_some());
        all.into_iter().filter(is_media).collect()
    }
}

fn leg(n: u128) -> LegId {
    LegId::from_u128(n)
}

fn part(own: u128, peer: u128, handler: HandlerKey) -> LegMedia {
    let opus = Directives::parse("1 to 1: opus;").unwrap();
    LegMedia {
        leg: leg(own),
        speaker: Some(handler),
        listener: Some(handler),
        peer: Some(leg(peer)),
        sends: opus.clone(),
        receives: opus,
        over: false,
    }
}

struct Rig {
    ports: Ports,
    calls: mpsc::Sender<Command>,
    commands: mpsc::Receiver<Command>,
}

impl Rig {
    /// A call of two legs, each carried by a phone.
    fn new() -> Self {
        let (calls, commands) = mpsc::channel(4);
        let rig = Self { ports: Ports::default(), calls, commands };
        rig.plan(vec![part(1, 2, PHONE), part(2, 1, PHONE)]);
        rig
    }

    fn plan(&self, legs: Vec<LegMedia>) {
        self.ports.apply(MediaPlan { legs }, &self.calls.downgrade());
    }

    fn port(&self, n: u128) -> Arc<LegPort> {
        self.ports.get(leg(n)).unwrap()
    }

    fn open(&self, n: u128, handler: HandlerKey, way: &Arc<Way>) -> Entrance {
        self.ports.open(&self.port(n), handler, way.clone())
    }
}

fn chunk(seq: u64) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&MediaHeader { seq, timestamp: seq * 20, ..MediaHeader::default() }, b"speech", &mut out);
    out.to_vec()
}

#[test]
fn chunks_go_from_leg_to_leg_and_back() {
    let rig = Rig::new();
    let (near, far) = (Way::session(), Way::session());
    let (in_near, in_far) = (rig.open(1, PHONE, &near), rig.open(2, PHONE, &far));
    assert!(in_near.arrived(&chunk(0)) && in_far.arrived(&chunk(7)));
    assert_eq!((far.media(), near.media()), (vec![chunk(0)], vec![chunk(7)]));
    assert_eq!(rig.port(1).drops(), Drops::default());
}

#[test]
fn a_new_session_takes_the_place_of_the_same_handlers_old_one_and_of_nothing_else() {
    let rig = Rig::new();
    let (far, old, new, byways, tablet) =
        (Way::session(), Way::session(), Way::session(), Way::byways(), Way::session());
    rig.open(2, PHONE, &far);
    let in_old = rig.open(1, PHONE, &old);
    rig.open(1, PHONE, &byways);
    rig.open(1, TABLET, &tablet);
    let in_new = rig.open(1, PHONE, &new);
    assert!(old.is_closed() && !byways.is_closed() && !tablet.is_closed());
    // What is still under way on the old one belongs to numbers that may be over.
    assert!(in_old.arrived(&chunk(0)));
    assert!(far.media().is_empty());
    in_new.arrived(&chunk(1));
    assert_eq!(far.media(), [chunk(1)]);
    // Its late end takes nothing along.
    in_old.closed();
    assert_eq!(lock(&rig.port(1).state).paths.len(), 3);
}

#[test]
fn a_session_is_used_while_it_answers_else_the_byways() {
    let rig = Rig::new();
    let (session, byways) = (Way::session(), Way::byways());
    rig.open(2, PHONE, &session);
    rig.open(2, PHONE, &byways);
    let port = rig.port(2);
    let best = |heard: [u64; 2], now: u64| {
        let mut state = lock(&port.state);
        for (path, at) in state.paths.iter_mut().zip(heard) {
            path.heard = Duration::from_millis(at);
        }
        let now = Duration::from_millis(now);
        let outlets = state.paths.iter().filter(|path| state.is_outlet(now, path));
        outlets.map(|path| path.path.is_session()).collect::<Vec<_>>()
    };
    assert_eq!(best([1000, 1900], 1999), [true], "it answered within the last second");
    assert_eq!(best([1000, 1900], 2000), [false]);
    assert_eq!(best([1000, 900], 5000), [true], "whichever was heard last");
}

#[test]
fn only_the_device_that_carries_the_call_hears_and_all_do_while_none_does() {
    let rig = Rig::new();
    let (near, phone, tablet) = (Way::session(), Way::session(), Way::session());
    let entrance = rig.open(1, PHONE, &near);
    rig.open(2, PHONE, &phone);
    rig.open(2, TABLET, &tablet);
    entrance.arrived(&chunk(0));
    assert_eq!((phone.media().len(), tablet.media().len()), (1, 0));
    rig.plan(vec![part(1, 2, PHONE), part(2, 1, TABLET)]);
    entrance.arrived(&chunk(1));
    assert_eq!((phone.media().len(), tablet.media().len()), (0, 1));
    rig.plan(vec![part(1, 2, PHONE), LegMedia { listener: None, ..part(2, 1, TABLET) }]);
    entrance.arrived(&chunk(2));
    assert_eq!((phone.media().len(), tablet.media().len()), (1, 1));
}

#[test]
fn a_leg_that_is_over_closes_its_paths_and_takes_no_more() {
    let rig = Rig::new();
    let (near, far) = (Way::session(), Way::session());
    let (in_near, in_far) = (rig.open(1, PHONE, &near), rig.open(2, PHONE, &far));
    let port = rig.port(1);
    rig.plan(vec![LegMedia { over: true, ..part(1, 2, PHONE) }, part(2, 1, PHONE)]);
    assert!(near.is_closed() && !far.is_closed());
    assert!(rig.ports.get(leg(1)).is_none());
    assert!(!in_near.arrived(&chunk(0)), "its client is to be told");
    assert!(in_far.arrived(&chunk(0)) && near.media().is_empty());
    // One that was just about to open.
    let late = Way::session();
    rig.ports.open(&port, PHONE, late.clone());
    assert!(late.is_closed());
}

#[test]
fn ports_go_with_their_owner_though_legs_know_each_other() {
    let rig = Rig::new();
    let (near, far) = (Way::session(), Way::session());
    rig.open(1, PHONE, &near);
    rig.open(2, PHONE, &far);
    let (one, two) = (Arc::downgrade(&rig.port(1)), Arc::downgrade(&rig.port(2)));
    drop(rig);
    assert!(one.upgrade().is_none() && two.upgrade().is_none());
    assert_eq!((Arc::strong_count(&near), Arc::strong_count(&far)), (1, 1));
}

#[test]
fn acks_that_no_media_takes_along_go_where_the_device_was_heard() {
    let rig = Rig::new();
    let (session, byways) = (Way::session(), Way::byways());
    let in_session = rig.open(1, PHONE, &session);
    let in_byways = rig.open(1, PHONE, &byways);
    let port = rig.port(1);
    let acks = |way: &Way| std::mem::take(&mut *lock(&way.sent)).len();
    in_session.arrived(&chunk(0));
    lock(&port.state).paths[0].heard += Duration::from_millis(1);
    port.acknowledge(clock::elapsed());
    assert_eq!((acks(&session), acks(&byways)), (1, 0));
    in_byways.arrived(&chunk(1));
    lock(&port.state).paths[1].heard += Duration::from_millis(2);
    port.acknowledge(clock::elapsed() + Duration::from_millis(100));
    assert_eq!((acks(&session), acks(&byways)), (0, 1));
}

#[test]
fn media_that_finds_nothing_open_panics_once_a_second() {
    let mut rig = Rig::new();
    let (near, far) = (Way::session(), Way::session());
    let in_near = rig.open(1, PHONE, &near);
    rig.open(2, PHONE, &far);
    far.broken.store(true, Ordering::Relaxed);
    lock(&rig.port(2).state).panicked = Duration::ZERO;
    let port = rig.port(2);
    let now = Duration::from_secs(100);
    for n in 0..10 {
        lock(&port.state).send(&port, now + Duration::from_millis(n * 200), &chunk(n));
    }
    drop(in_near);
    let mut panics = 0;
    while rig.commands.try_recv().is_ok() {
        panics += 1;
    }
    assert_eq!(panics, 2);
}

#[test]
fn digits_queue_up_for_one_player() {
    let rig = Rig::new();
    let port = rig.port(1);
    assert!(port.dial('1', 100));
    assert!(!port.dial('2', 100));
    assert_eq!(port.next_digit(), Some(('1', 100)));
    assert!(!port.dial('3', 100));
    assert_eq!(
        (port.next_digit(), port.next_digit(), port.next_digit()),
        (Some(('2', 100)), Some(('3', 100)), None)
    );
    assert!(port.dial('4', 100), "the player is gone");
    (0..1000).for_each(|_| assert!(!port.dial('5', 100)));
    assert_eq!(lock(&port.state).dialled.len(), MAX_DIGITS);
}
