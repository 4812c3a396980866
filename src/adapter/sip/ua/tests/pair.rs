//! Two user agents, joined by a transaction layer that is only as much as the tests need: what it must repeat it repeats, what
//! may be lost is lost, and messages overtake each other.

use rsipstack::sip::Method;

use super::super::header::{cseq, first, tag};
use super::super::timer::{PATIENCE, Random, T1};
use super::*;

const CALLER: usize = 0;
const CALLEE: usize = 1;

/// On its way.
enum Item {
    Request(ServerId, Request),
    Response(ClientId, Response),
    Do(Command),
    /// A copy of the 2xx of this server transaction, until its ACK came.
    Success(ServerId),
}

struct Flight {
    at: Instant,
    order: u64,
    to: usize,
    item: Item,
}

/// A server transaction: whose request it is, and the 2xx of an INVITE that isn't acknowledged.
struct Transaction {
    id: ServerId,
    client: (usize, ClientId),
    request: Request,
    success: Option<Response>,
    wait: Duration,
    sent_at: Instant,
}

struct World {
    now: Instant,
    uas: [Option<Ua>; 2],
    told: [Vec<Event>; 2],
    sent: [Vec<String>; 2],
    codes: Vec<u16>,
    flights: Vec<Flight>,
    transactions: Vec<Transaction>,
    random: Random,
    /// Of 100.
    loss: u64,
    callee: Profile,
    order: u64,
    answers: u32,
}

impl World {
    fn new(seed: u64, loss: u64, caller: Profile, callee: Profile, offer: Option<&str>) -> Self {
        let now = crate::clock::instant();
        let caller = Profile { seed: u128::from(seed) << 64 | 1, ..caller };
        let callee = Profile { seed: u128::from(seed) << 64 | 2, ..callee };
        let mut world = Self {
            now,
            uas: [Some(Ua::place(now, caller, offer.map(str::to_owned))), None],
            told: [vec![], vec![]],
            sent: [vec![], vec![]],
            codes: vec![],
            flights: vec![],
            transactions: vec![],
            random: Random::new(u128::from(seed)),
            loss,
            callee,
            order: 0,
            answers: 0,
        };
        world.drain(CALLER);
        world
    }

    fn lost(&mut self) -> bool {
        self.random.next() % 100 < self.loss
    }

    fn fly(&mut self, after: Duration, to: usize, item: Item) {
        self.order += 1;
        self.flights.push(Flight { at: self.now + after, order: self.order, to, item });
    }

    /// The way of a message, which may be overtaken.
    fn way(&mut self) -> Duration {
        Duration::from_millis(10 + self.random.next() % if self.loss == 0 { 1 } else { 300 })
    }

    /// How long a message that is repeated takes; none: too long.
    fn repeated(&mut self) -> Option<Duration> {
        let mut wait = Duration::ZERO;
        for n in 0..7 {
            if !self.lost() {
                return Some(wait + self.way());
            }
            wait += T1 * 2_u32.pow(n);
        }
        None
    }

    fn act(&mut self, after: Duration, who: usize, command: Command) {
        self.fly(after, who, Item::Do(command));
    }

    fn drain(&mut self, who: usize) {
        while let Some(output) = self.uas[who].as_mut().and_then(Ua::poll) {
            match output {
                Output::Request(id, request) => self.request(who, id, request),
                Output::Cancel(id, _) => {
                    let find = |t: &&Transaction| t.client == (who, id);
                    let Some(invite) = self.transactions.iter().find(find) else { continue };
                    let mut cancel = invite.request.clone();
                    cancel.method = Method::Cancel;
                    let seq = cseq(&cancel.headers).unwrap().0;
                    cancel.headers.unique_push(super::super::build::line("CSeq", format!("{seq} CANCEL")));
                    if let Some(way) = self.repeated() {
                        self.fly(way, 1 - who, Item::Request(0, cancel));
                    }
                }
                Output::Ack(ack) => {
                    if !self.lost() {
                        let way = self.way();
                        self.fly(way, 1 - who, Item::Request(0, ack));
                    }
                }
                Output::Respond(id, response) => self.respond(id, response),
                Output::Event(event) => {
                    if let (Event::Offered(_), true) = (&event, who == CALLER || self.answered(CALLEE)) {
                        self.answers += 1;
                        let answer = format!("v=0\r\ns={}\r\nm=audio 1 RTP/AVP 0\r\n", self.answers);
                        self.act(Duration::from_millis(30), who, Command::Answer(answer));
                    }
                    self.told[who].push(event);
                }
            }
        }
    }

    fn request(&mut self, who: usize, client: ClientId, mut request: Request) {
        self.sent[who].push(request.method.to_string());
        self.order += 1;
        let id = u32::try_from(self.order).unwrap();
        request
            .headers
            .push_front(super::super::build::line("Via", format!("SIP/2.0/UDP x;branch=z9hG4bK{id}")));
        self.transactions.push(Transaction {
            id,
            client: (who, client),
            request: request.clone(),
            success: None,
            wait: T1,
            sent_at: self.now,
        });
        match self.repeated() {
            Some(way) => self.fly(way, 1 - who, Item::Request(id, request)),
            None => {
                let response = reply_to(&request, 408, "x", "", "");
                self.fly(PATIENCE, who, Item::Response(client, response));
            }
        }
    }

    fn respond(&mut self, id: ServerId, response: Response) {
        let code = response.status_code.code();
        self.codes.push(code);
        let Some(at) = self.transactions.iter().position(|t| t.id == id) else { return };
        let (to, client) = self.transactions[at].client;
        let invite = self.transactions[at].request.method == Method::Invite;
        if code < 200 {
            if !self.lost() {
                let way = self.way();
                self.fly(way, to, Item::Response(client, response));
            }
        } else if code < 300 && invite {
            self.transactions[at].success = Some(response);
            self.transactions[at].sent_at = self.now;
            self.fly(Duration::ZERO, to, Item::Success(id));
        } else if let Some(way) = self.repeated() {
            self.fly(way, to, Item::Response(client, response));
        } else {
            let late = reply_to(&self.transactions[at].request, 408, "x", "", "");
            self.fly(PATIENCE, to, Item::Response(client, late));
        }
    }

    fn arrive(&mut self, to: usize, item: Item) {
        let input = match item {
            Item::Do(command) => Input::Do(command),
            Item::Response(id, response) => Input::Response(id, response),
            Item::Success(id) => {
                let Some(at) = self.transactions.iter().position(|t| t.id == id) else { return };
                let transaction = &mut self.transactions[at];
                let Some(response) = transaction.success.clone() else { return };
                let (wait, client) = (transaction.wait, transaction.client.1);
                transaction.wait = (wait * 2).min(T1 * 8);
                if self.now - transaction.sent_at < PATIENCE {
                    self.fly(wait, to, Item::Success(id));
                }
                if !self.lost() {
                    let way = self.way();
                    self.fly(way, to, Item::Response(client, response));
                }
                return;
            }
            Item::Request(id, request) => {
                if request.method == Method::Ack {
                    let seq = cseq(&request.headers).map(|(n, _)| n);
                    let own = |t: &&mut Transaction| {
                        t.client.0 == 1 - to && cseq(&t.request.headers).map(|(n, _)| n) == seq
                    };
                    for transaction in self.transactions.iter_mut().filter(own) {
                        transaction.success = None;
                    }
                }
                if self.uas[to].is_none() {
                    match Ua::arrive(self.now, self.callee.clone(), id, request) {
                        Ok(ua) => self.uas[to] = Some(ua),
                        Err(response) => self.respond(id, *response),
                    }
                    return self.drain(to);
                }
                Input::Request(id, request)
            }
        };
        if let Some(ua) = &mut self.uas[to] {
            let _ = ua.handle(self.now, input);
        }
        self.drain(to);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            let next = self.flights.iter().map(|f| (f.at, f.order)).min();
            let timers = [0, 1].map(|who| self.uas[who].as_ref().and_then(Ua::next_timeout));
            let timer = timers.into_iter().flatten().min();
            let at = [next.map(|(at, _)| at), timer].into_iter().flatten().min();
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            match next.filter(|(flight, _)| *flight <= at) {
                Some((_, order)) => {
                    let which = self.flights.iter().position(|f| f.order == order).unwrap();
                    let flight = self.flights.swap_remove(which);
                    self.arrive(flight.to, flight.item);
                }
                None => {
                    for who in [CALLER, CALLEE] {
                        if let Some(ua) = &mut self.uas[who] {
                            ua.handle(self.now, Input::Tick).unwrap();
                        }
                        self.drain(who);
                    }
                }
            }
        }
        panic!("it never comes to rest");
    }

    /// The server of one side dies and comes back: nothing of it is left but what it wrote down.
    fn restart(&mut self, who: usize) {
        let kept = self.uas[who].take().and_then(|ua| ua.kept()).expect("it stands");
        self.transactions.retain(|t| t.client.0 != who);
        self.flights.retain(|flight| flight.to != who || matches!(flight.item, Item::Request(..)));
        let profile = Profile { seed: self.random.next().into(), ..self.callee.clone() };
        self.uas[who] = Ua::resume(self.now, profile, kept, OTHER);
        self.drain(who);
    }

    fn answered(&self, who: usize) -> bool {
        self.told[who].contains(&Event::Answered)
    }

    fn endings(&self, who: usize) -> Vec<&Ending> {
        self.told[who]
            .iter()
            .filter_map(|e| if let Event::Ended(ending) = e { Some(ending) } else { None })
            .collect()
    }

    fn agreed(&self, who: usize) -> (Option<&str>, Option<&str>) {
        let talk = &self.uas[who].as_ref().unwrap().dialogs[0].talk;
        assert!(talk.stable());
        (talk.local(), talk.remote())
    }
}

/// A set-up, in a word each: where the offer is, and how ringing is told.
fn worlds(loss: u64, seeds: u64) -> impl Iterator<Item = (String, World)> {
    (0..seeds).flat_map(move |seed| {
        [
            (Some(OFFER), Reliable::Supported),
            (None, Reliable::Supported),
            (Some(OFFER), Reliable::No),
            (None, Reliable::No),
        ]
        .map(|(offer, reliable)| {
            let timed = Profile { session_expires: Some(SECOND * 120), reliable, ..profile() };
            let name = format!("seed {seed}, offer {}, {reliable:?}", offer.is_some());
            let mut world = World::new(seed, loss, timed.clone(), timed, offer);
            world.act(SECOND * 3, CALLEE, Command::Progress { answer: Some(ANSWER.into()) });
            world.act(SECOND * 4, CALLEE, Command::Ring { answer: None });
            world.act(SECOND * 8, CALLEE, Command::Accept { sdp: ANSWER.into() });
            (name, world)
        })
    })
}

#[test]
fn a_call_is_set_up_kept_and_ended() {
    for (name, mut world) in worlds(0, 1) {
        world.run(SECOND * 10);
        for who in [CALLER, CALLEE] {
            assert!(world.answered(who), "{name}: {:?}", world.told[who]);
        }
        assert_eq!(world.agreed(CALLER), (world.agreed(CALLEE).1, world.agreed(CALLEE).0), "{name}");
        // Ten minutes with a session of two: somebody refreshes.
        world.run(SECOND * 600);
        assert!(world.endings(CALLER).is_empty() && world.endings(CALLEE).is_empty(), "{name}");
        let updates = world.sent.iter().flatten().filter(|m| *m == "UPDATE").count();
        assert!((8..=12).contains(&updates), "{name}: {updates}");
        world.act(Duration::ZERO, CALLEE, Command::End { reason: Some("Q.850;cause=16".into()) });
        world.run(SECOND * 60);
        assert_eq!(world.endings(CALLEE)[0].by, By::Near);
        assert_eq!(world.endings(CALLER)[0].by, By::Far);
        assert_eq!(world.endings(CALLER)[0].reason.as_deref(), Some("Q.850;cause=16"));
        assert!(world.uas.iter().flatten().all(Ua::is_over), "{name}");
    }
}

#[test]
fn a_lossy_network_sets_up_and_ends_calls_all_the_same() {
    let mut glare = 0;
    for (name, mut world) in worlds(15, 60) {
        world.run(SECOND * 40);
        for who in [CALLER, CALLEE] {
            assert!(world.answered(who), "{name}: {:?} {:?}", world.told, world.sent);
        }
        // Both offer at once: glare, and then both are answered.
        world.act(Duration::ZERO, CALLER, Command::Offer(OTHER.into()));
        world.act(Duration::ZERO, CALLEE, Command::Offer(OFFER.into()));
        world.run(SECOND * 90);
        let mirrored = (world.agreed(CALLEE).1, world.agreed(CALLEE).0);
        assert_eq!(world.agreed(CALLER), mirrored, "{name}: {:?}", world.told);
        let refused = |e: &&Event| matches!(e, Event::OfferRefused(_));
        assert_eq!(world.told.iter().flatten().find(refused), None, "{name}: {:?}", world.sent);
        glare += usize::from(world.codes.contains(&491));
        // Both hang up at once.
        let end = Command::End { reason: None };
        world.act(Duration::ZERO, CALLER, end.clone());
        world.act(Duration::from_millis(50), CALLEE, end);
        world.run(SECOND * 120);
        for who in [CALLER, CALLEE] {
            assert_eq!(world.endings(who).len(), 1, "{name}");
            assert!(matches!(world.told[who].last(), Some(Event::Ended(_))), "{name}");
            assert!(world.uas[who].as_ref().unwrap().is_over(), "{name}");
        }
    }
    assert!(glare > 50, "{glare} of 240 saw glare");
}

#[test]
fn whenever_it_is_cancelled_both_sides_end() {
    for ms in (0..10_000).step_by(250) {
        for (name, mut world) in worlds(15, 2) {
            world.act(Duration::from_millis(ms), CALLER, Command::End { reason: None });
            world.run(SECOND * 200);
            for who in [CALLER, CALLEE] {
                if let Some(ua) = &world.uas[who] {
                    assert!(ua.is_over(), "{name}, {ms}: {who} {:?} {:?}", world.told, world.sent);
                    assert_eq!(world.endings(who).len(), 1, "{name}, {ms}");
                }
            }
        }
    }
}

#[test]
fn a_reject_ends_both() {
    for (name, mut world) in worlds(15, 10) {
        let reject = Command::Reject { code: 486, retry_after: None, reason: Some("Q.850;cause=17".into()) };
        world.act(SECOND * 5, CALLEE, reject);
        world.run(SECOND * 120);
        let ending = world.endings(CALLER)[0];
        assert_eq!((ending.code, ending.reason.as_deref()), (Some(486), Some("Q.850;cause=17")), "{name}");
        assert!(world.uas.iter().flatten().all(Ua::is_over), "{name}");
    }
}

#[test]
fn a_transfer_is_asked_for_and_reported_on() {
    for (name, mut world) in worlds(15, 5) {
        world.run(SECOND * 40);
        world.act(Duration::ZERO, CALLEE, Command::Refer { to: "sip:carol@z".into(), by: None });
        world.run(SECOND * 20);
        let asked = Event::Refer { to: "sip:carol@z".into(), replaces: None, by: None };
        assert!(world.told[CALLER].contains(&asked), "{name}");
        world.act(Duration::ZERO, CALLER, Command::ReferProgress(180));
        world.act(SECOND * 30, CALLER, Command::ReferProgress(200));
        world.run(SECOND * 60);
        assert!(world.told[CALLEE].contains(&Event::Referred(200)), "{name}: {:?}", world.told[CALLEE]);
    }
}

#[test]
fn both_ends_name_the_same_dialog() {
    let (_, mut world) = worlds(0, 1).next().unwrap();
    world.run(SECOND * 10);
    let [caller, callee] = [0, 1].map(|who| world.uas[who].as_ref().unwrap().dialog().unwrap());
    assert_eq!((&caller.local_tag, &caller.call_id), (&callee.remote_tag, &callee.call_id));
    assert_eq!(caller.remote_tag, callee.local_tag);
    let invite = world.uas[CALLEE].as_ref().unwrap().invite().unwrap();
    assert_eq!(tag(&invite.headers, "From"), Some(caller.local_tag));
    assert!(first(&invite.headers, "P-Preferred-Identity").is_some());
}

#[test]
fn a_call_outlives_the_server_of_either_side_or_of_both() {
    for (name, mut world) in worlds(15, 20) {
        world.run(SECOND * 90);
        for (at, who) in [&[CALLER][..], &[CALLEE], &[CALLER, CALLEE]].into_iter().enumerate() {
            who.iter().for_each(|who| world.restart(*who));
            world.run(SECOND * 90);
            let ended = [CALLER, CALLEE].map(|who| world.endings(who).len());
            assert_eq!(ended, [0, 0], "{name}, {at}: {:?} {:?}", world.told, world.sent);
            assert_eq!(
                world.agreed(CALLER),
                (world.agreed(CALLEE).1, world.agreed(CALLEE).0),
                "{name}, {at}"
            );
        }
        // A session of two minutes: somebody refreshes.
        world.run(SECOND * 600);
        world.act(Duration::ZERO, CALLEE, Command::End { reason: None });
        world.run(SECOND * 60);
        assert_eq!(world.endings(CALLER).iter().map(|e| e.by).collect::<Vec<_>>(), [By::Far], "{name}");
    }
}
