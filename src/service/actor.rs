//! The one task that owns a call: it feeds the machine, writes down what changed, and does what the machine
//! says. Others hold a [`CallHandle`] with a bounded mailbox.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Service;
use super::away::{Away, Found, Leaving, carry};
use super::gateway::{Departure, Line};
use super::idempotency::Used;
use crate::call::{
    Accepted, ByWay, BywayId, Call, Input, Leg, LegView, NewLeg, Output, Purpose, Refusal, To,
};
use crate::clock;
use crate::media::quality::StreamReport;
use crate::protocol::event::{Body, Event, State};
use crate::protocol::id::{CallId, HandlerKey, LegId};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{Tap, call_path};
use crate::store::{Table, Write};

/// Requests waiting for one call; who finds it full waits, for at most [`PATIENCE`].
const MAILBOX: usize = 256;
const PATIENCE: Duration = Duration::from_secs(2);
/// Events waiting for one byway; a byway that is further behind is closed and comes back with `after`.
const BYWAY_QUEUE: usize = 512;
/// wire §4 `quality`: every 5 s and at the end.
const QUALITY: Duration = Duration::from_secs(5);

/// What the store holds of a call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<C> {
    pub(crate) call: C,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency: Option<Used>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) away: Option<Away>,
}

/// The end of a byway that the call writes to.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    leg: LegId,
    kind: ByWay,
    events: mpsc::Sender<Arc<Event>>,
}

type Answer<T> = oneshot::Sender<T>;

/// A request to the call's owner.
#[derive(Debug)]
pub(crate) enum Command {
    Input(Box<Input>, Option<Answer<Result<Option<Accepted>, Problem>>>),
    View(LegId, Option<HandlerKey>, Answer<Option<LegView>>),
    Open(LegId, ByWay, Option<u64>, Answer<Result<Byway, Problem>>),
    Say(LegId, HandlerKey, Body),
    Release(LegId, String, Answer<Result<Parcel, Refusal>>),
    Depart(Result<Box<Leaving>, Problem>),
    Adopt(Result<Parcel, Code>),
    Keep(LegId, Value),
}

/// A leg on its way from one call to another, with its open byways.
#[derive(Debug)]
pub(crate) struct Parcel {
    leg: Box<Leg>,
    outlets: HashMap<BywayId, Outlet>,
}

impl Command {
    pub(crate) fn digit(leg: LegId, digit: char, duration: u32) -> Self {
        Self::Input(Box::new(Input::MediaDigit { leg, digit, duration }), None)
    }

    pub(crate) fn panic(leg: LegId) -> Self {
        Self::Input(Box::new(Input::MediaPanic { leg }), None)
    }
}

/// An open byway; it closes when dropped.
#[derive(Debug)]
pub struct Byway {
    id: BywayId,
    leg: LegId,
    calls: CallHandle,
    /// What the call says on it; ends when the call closes it.
    pub events: mpsc::Receiver<Arc<Event>>,
}

impl Drop for Byway {
    fn drop(&mut self) {
        let closed = Command::Input(Box::new(Input::Closed { leg: self.leg, byway: self.id }), None);
        if let Err(mpsc::error::TrySendError::Full(closed)) = self.calls.mailbox.try_send(closed) {
            let mailbox = self.calls.mailbox.clone();
            // The one thing that must not be lost: a byway that is believed open keeps a call alive.
            tokio::spawn(async move { mailbox.send(closed).await });
        }
    }
}

/// What others hold of a call.
#[derive(Clone, Debug)]
pub struct CallHandle {
    /// Its name.
    pub id: CallId,
    pub(crate) mailbox: mpsc::Sender<Command>,
}

fn gone<E>(_: E) -> Problem {
    Problem::new(Code::NotFound, "there is no such call")
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.detail)
    }
}

impl CallHandle {
    pub(crate) async fn send(&self, command: Command) -> Result<(), Problem> {
        match tokio::time::timeout(PATIENCE, self.mailbox.send(command)).await {
            Ok(sent) => sent.map_err(gone),
            Err(_) => Err(Problem::new(Code::Overloaded, "this call has too many requests waiting")),
        }
    }

    /// Feeds the call something that happened.
    pub async fn input(&self, input: Input) -> Result<Option<Accepted>, Problem> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Input(Box::new(input), Some(answer))).await?;
        answered.await.map_err(gone)?
    }

    /// A leg as a device may read it.
    pub async fn view(&self, leg: LegId, asker: Option<HandlerKey>) -> Result<LegView, Problem> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::View(leg, asker, answer)).await?;
        answered.await.map_err(gone)?.ok_or(()).map_err(gone)
    }

    /// Opens a signalling byway.
    pub async fn open(&self, leg: LegId, kind: ByWay, after: Option<u64>) -> Result<Byway, Problem> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Open(leg, kind, after, answer)).await?;
        answered.await.map_err(gone)?
    }

    /// Tells one device something that is over once said.
    pub async fn say(&self, leg: LegId, handler: HandlerKey, body: Body) -> Result<(), Problem> {
        self.send(Command::Say(leg, handler, body)).await
    }
}

pub(crate) struct Actor {
    service: Weak<Service>,
    call: Call,
    idempotency: Option<Used>,
    replay: Option<String>,
    away: Option<Away>,
    own: mpsc::WeakSender<Command>,
    outlets: HashMap<BywayId, Outlet>,
    released: Option<Box<Leg>>,
    tasks: JoinSet<()>,
    gone: bool,
}

impl Actor {
    /// Starts the owner of a call whose state is in the store already.
    pub(crate) fn start(
        service: &Arc<Service>,
        call: Call,
        idempotency: Option<Used>,
        replay: Option<String>,
        away: Option<(Away, Option<Box<dyn Line>>)>,
    ) -> CallHandle {
        let (mailbox, commands) = mpsc::channel(MAILBOX);
        let handle = CallHandle { id: call.id, mailbox };
        for leg in call.legs() {
            service.directory.insert(leg, &handle);
        }
        let mut tasks = JoinSet::new();
        let away = away.map(|(away, line)| {
            if !call.over() {
                tasks.spawn(carry(service, away.clone(), line, handle.clone()));
            }
            away
        });
        let actor = Self {
            service: Arc::downgrade(service),
            call,
            idempotency,
            replay,
            away,
            own: handle.mailbox.downgrade(),
            outlets: HashMap::new(),
            released: None,
            tasks,
            gone: false,
        };
        let id = actor.call.id;
        service.directory.owned_by(id, tokio::spawn(actor.run(commands)).abort_handle());
        handle
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        // The first look at the clock also tells the media ports what the call wants of them.
        if self.call.handle(clock::now(), Input::Tick).is_ok() {
            self.drain();
        }
        let mut quality = tokio::time::interval(QUALITY);
        quality.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.gone {
            let due = self.call.next_timer().map(|t| t.since(clock::now()));
            let timer = tokio::time::sleep(due.unwrap_or(Duration::from_secs(3600)));
            let over = self.call.over();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                () = timer => {
                    if let Err(error) = self.input(Input::Tick).await {
                        tracing::warn!(code = error.code.as_str(), "a call's timer could not be written down");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                _ = quality.tick(), if !over => self.report_all(),
            }
        }
        let Some(service) = self.service.upgrade() else { return };
        service.directory.forget(&self.call);
        if let Some(used) = &self.idempotency {
            service.idempotency.forget(&used.user, &used.key);
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Input(input, answer) => {
                if let Input::Closed { byway, .. } = &*input {
                    self.outlets.remove(byway);
                }
                let done = self.input(*input).await;
                if let Some(answer) = answer {
                    let _ = answer.send(done);
                }
            }
            Command::View(leg, asker, answer) => {
                let _ = answer.send(self.call.view(leg, asker));
            }
            Command::Open(leg, kind, after, answer) => {
                let _ = answer.send(self.open(leg, kind, after).await);
            }
            Command::Say(leg, handler, body) => {
                if let Some(event) = self.call.transient(clock::now(), leg, To::Handler(handler), body) {
                    self.deliver(leg, To::Handler(handler), Arc::new(event));
                }
            }
            Command::Release(by, user, answer) => {
                let done = self.input(Input::Release { by, user }).await;
                let parcel = match (done, self.released.take()) {
                    (Ok(_), Some(leg)) => {
                        let outlets = self.outlets.extract_if(|_, o| o.leg == leg.id).collect();
                        Ok(Parcel { leg, outlets })
                    }
                    (Err(problem), _) => {
                        Err(Refusal { code: problem.code, detail: "the other call would not" })
                    }
                    (Ok(_), None) => {
                        Err(Refusal { code: Code::IllegalEvent, detail: "there is nobody to hand on" })
                    }
                };
                let _ = answer.send(parcel);
            }
            Command::Depart(Ok(leaving)) => {
                let Leaving { leg, away, line } = *leaving;
                self.away = Some(away.clone());
                let placed = self.input(routed(Purpose::Place, leg)).await;
                // The caller may have given up meanwhile.
                let joined = placed.is_ok() && self.call.legs().any(|leg| leg.id == away.leg);
                match (self.service.upgrade(), self.own.upgrade()) {
                    (Some(service), Some(mailbox)) if joined => {
                        let calls = CallHandle { id: self.call.id, mailbox };
                        self.tasks.spawn(carry(&service, away, Some(line), calls));
                    }
                    _ => {
                        self.away = None;
                        self.tasks.spawn(line.abandon());
                    }
                }
            }
            Command::Keep(leg, record) => self.keep(leg, record).await,
            Command::Depart(Err(problem)) => {
                let input = Input::NotRouted { purpose: Purpose::Place, code: problem.code };
                if let Err(problem) = self.input(input).await {
                    tracing::warn!(code = problem.code.as_str(), "a failure could not be written down");
                }
            }
            Command::Adopt(parcel) => {
                let input = match parcel {
                    Ok(Parcel { leg, outlets }) => {
                        if let (Some(service), Some(mailbox)) = (self.service.upgrade(), self.own.upgrade()) {
                            service.directory.insert(&leg, &CallHandle { id: self.call.id, mailbox });
                            self.introduce(&service, &leg).await;
                        }
                        self.outlets.extend(outlets);
                        Input::Adopt { leg }
                    }
                    Err(code) => Input::NotReleased { code },
                };
                if let Err(problem) = self.input(input).await {
                    tracing::warn!(code = problem.code.as_str(), "a transfer could not be written down");
                }
            }
        }
    }

    /// How a gateway finds its leg again, from now on.
    async fn keep(&mut self, leg: LegId, record: Value) {
        let over = self.call.over();
        let Some(away) = self.away.as_mut().filter(|away| away.leg == leg && !over) else { return };
        away.record = record;
        // What can't be written now goes along with the next change.
        if let Err(problem) = self.put().await {
            tracing::warn!(
                code = problem.code.as_str(),
                "how a call is found again could not be written down"
            );
        }
    }

    /// One step of the machine: what changed is written down before anybody hears of it.
    async fn input(&mut self, input: Input) -> Result<Option<Accepted>, Problem> {
        let before = self.call.clone();
        let joins = matches!(input, Input::Routed { .. });
        let done = self.call.handle(clock::now(), input)?;
        if let Err(problem) = self.write_down().await {
            self.call = before;
            return Err(problem);
        }
        if joins {
            self.enlist();
        }
        self.drain();
        Ok(done)
    }

    /// A leg that has joined is found by its URI before its devices hear of it.
    fn enlist(&self) {
        let (Some(service), Some(mailbox)) = (self.service.upgrade(), self.own.upgrade()) else { return };
        let calls = CallHandle { id: self.call.id, mailbox };
        self.call.legs().filter(|l| !l.ended()).for_each(|leg| service.directory.insert(leg, &calls));
    }

    async fn write_down(&mut self) -> Result<(), Problem> {
        if self.call.take_changed() { self.put().await } else { Ok(()) }
    }

    async fn put(&mut self) -> Result<(), Problem> {
        let Some(service) = self.service.upgrade() else { return Ok(()) };
        let write =
            record(&self.call, self.idempotency.as_ref(), self.replay.as_deref(), self.away.as_ref())?;
        service.store.0.write(vec![write]).await?;
        Ok(())
    }

    async fn open(&mut self, leg: LegId, kind: ByWay, after: Option<u64>) -> Result<Byway, Problem> {
        let (Some(service), Some(mailbox)) = (self.service.upgrade(), self.own.upgrade()) else {
            return Err(gone(()));
        };
        let open = self.outlets.values().filter(|o| o.leg == leg).count();
        if open >= service.settings.byways_per_leg {
            return Err(Problem::new(Code::TooMany, "this call has too many signalling byways open"));
        }
        let id = service.next_byway.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (events, receiver) = mpsc::channel(BYWAY_QUEUE);
        self.outlets.insert(id, Outlet { leg, kind, events });
        if let Err(problem) = self.input(Input::Opened { leg, byway: id, kind, after }).await {
            self.outlets.remove(&id);
            return Err(problem);
        }
        let calls = CallHandle { id: self.call.id, mailbox };
        Ok(Byway { id, leg, calls, events: receiver })
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        let Some(service) = self.service.upgrade() else { return };
        match output {
            Output::Send { leg, to, event } => {
                if matches!(event.body, Body::Ended { .. }) && event.snapshot.is_none() {
                    self.report(&service, leg);
                }
                self.deliver(leg, to, Arc::new(*event));
            }
            Output::Close { leg } => {
                self.outlets.retain(|_, o| o.leg != leg);
                service.directory.ended(leg);
            }
            Output::Tap { leg, only, reason } => {
                if let Some(leg) = self.call.legs().find(|l| l.id == leg) {
                    let tap = Tap { call: call_path(&leg.tg, leg.id), reason };
                    service.push.tap(&leg.user, only, &tap);
                }
            }
            Output::Route { destination, purpose: Purpose::Place } => self.place(&service, destination),
            Output::Route { destination, purpose } => {
                let word = self.call.word().filter(|_| purpose == Purpose::Transfer);
                let found = service.locate(&destination).and_then(|leg| {
                    let Some(word) = word else { return Ok((leg, None)) };
                    let target = Some(service.word(word, &destination)?);
                    let kept = self.call.kept().map(|own| service.vouch(&destination, own)).transpose()?;
                    Ok((leg, Some(Input::Vouched { target, kept })))
                });
                self.follow_up(match found {
                    Ok((leg, word)) => word.into_iter().chain([Input::Routed { purpose, leg }]).collect(),
                    Err(problem) => vec![Input::NotRouted { purpose, code: problem.code }],
                });
            }
            Output::Fetch { replaces, user } => self.fetch(&service, replaces, user),
            Output::Released(leg) => self.released = Some(leg),
            Output::Media(plan) => service.ports.apply(plan, &self.own),
            Output::Digit { leg, digit, duration } => {
                if let Some(port) = service.ports.get(leg).filter(|port| port.dial(digit, duration)) {
                    self.tasks.spawn(port.play_digits());
                }
            }
            Output::Gone => {
                self.gone = true;
                let mut writes = vec![Write::delete(Table::Calls, self.call.id.to_string())];
                writes.extend(self.replay.take().map(|key| Write::delete(Table::Meta, key)));
                // What can't be deleted now is deleted when it is read at the next start.
                drop(service.store.0.write(writes));
            }
        }
    }

    /// Attended transfer: who was called and talks to another now is told of whom, where the server can say.
    async fn introduce(&mut self, service: &Service, leg: &Leg) {
        let told = self.call.word().zip(leg.called());
        let target = told.and_then(|(word, to)| service.word(word, to).ok());
        let kept = self.call.kept().and_then(|own| service.vouch(leg.own(), own).ok());
        if let Err(problem) = self.input(Input::Vouched { target, kept }).await {
            tracing::warn!(code = problem.code.as_str(), "a transfer could not be written down");
        }
    }

    /// What an output led to goes to the machine as its next input, through the mailbox like everything.
    fn follow_up(&mut self, inputs: Vec<Input>) {
        let own = self.own.clone();
        // One task for all: they arrive in this order.
        self.tasks.spawn(async move {
            for input in inputs {
                let Some(mailbox) = own.upgrade() else { return };
                let _ = mailbox.send(Command::Input(Box::new(input), None)).await;
            }
        });
    }

    /// Attended transfer: asks the other call for its far leg. A task of its own, since that call may be
    /// asking this one for something at the same time.
    fn fetch(&mut self, service: &Arc<Service>, replaces: LegId, user: String) {
        let other = service.directory.get(replaces);
        let own = self.own.clone();
        self.tasks.spawn(async move {
            let ask = async {
                let other = other.ok_or(Code::NotFound)?;
                let (answer, answered) = oneshot::channel();
                other.send(Command::Release(replaces, user, answer)).await.map_err(|p| p.code)?;
                answered.await.map_err(|_| Code::NotFound)?.map_err(|refusal| refusal.code)
            };
            let parcel = ask.await;
            if let Some(mailbox) = own.upgrade() {
                let _ = mailbox.send(Command::Adopt(parcel)).await;
            }
        });
    }

    /// Finds the callee of a call that was placed without a device, once one has taken it.
    fn place(&mut self, service: &Arc<Service>, destination: Number) {
        let Some(leg) = self.call.legs().next() else { return };
        let (tg, call) = match (service.find(&destination, &leg.user), self.call.departure(destination)) {
            (Ok(Found::Here(leg)), _) => return self.follow_up(vec![routed(Purpose::Place, leg)]),
            (Ok(Found::Away(target)), Some(call)) => (leg.tg.clone(), (target, call)),
            (Ok(Found::Away(_)), None) => {
                let code = Code::NoCommonCodec;
                return self.follow_up(vec![Input::NotRouted { purpose: Purpose::Place, code }]);
            }
            (Err(problem), _) => {
                let code = problem.code;
                return self.follow_up(vec![Input::NotRouted { purpose: Purpose::Place, code }]);
            }
        };
        let (service, own) = (service.clone(), self.own.clone());
        self.tasks.spawn(async move {
            let (target, (from, to, passport, advertisement)) = call;
            // Who lets a server place their call for several devices withholds nothing and says no location.
            let call = Departure { from, to, passport, advertisement, withheld: false, location: None };
            let leaving = service.depart(target, &tg, call).await.map(Box::new);
            if let Some(mailbox) = own.upgrade() {
                let _ = mailbox.send(Command::Depart(leaving)).await;
            }
        });
    }

    fn deliver(&mut self, leg: LegId, to: To, event: Arc<Event>) {
        self.outlets.retain(|id, outlet| {
            let wanted = outlet.leg == leg
                && match (to, outlet.kind) {
                    (To::All, ByWay::Reverse(_)) => true,
                    (To::Handler(key), ByWay::Reverse(handler)) => handler == Some(key),
                    (To::Byway(byway), _) => *id == byway,
                    (_, ByWay::Forward(_)) => false,
                };
            // A byway that doesn't read is dropped: its client comes back with `after` and misses nothing.
            !wanted || outlet.events.try_send(event.clone()).is_ok()
        });
    }

    fn report_all(&mut self) {
        let Some(service) = self.service.upgrade() else { return };
        let answered: Vec<LegId> = self
            .call
            .legs()
            .filter(|l| self.call.view(l.id, None).is_some_and(|v| v.state == State::Answered))
            .map(|l| l.id)
            .collect();
        for leg in answered {
            self.report(&service, leg);
        }
    }

    fn report(&mut self, service: &Arc<Service>, leg: LegId) {
        let Some(port) = service.ports.get(leg) else { return };
        let entries = |reports: Vec<StreamReport>, direction: &'static str| {
            reports.into_iter().map(move |report| {
                let mut entry = json!(report);
                entry["direction"] = direction.into();
                entry
            })
        };
        let streams: Vec<Value> = entries(port.reports(), "c2s").chain(entries(port.sent(), "s2c")).collect();
        if streams.is_empty() {
            return;
        }
        if let Some(event) = self.call.transient(clock::now(), leg, To::All, Body::Quality { streams }) {
            self.deliver(leg, To::All, Arc::new(event));
        }
    }
}

pub(crate) fn record(
    call: &Call,
    idempotency: Option<&Used>,
    replay: Option<&str>,
    away: Option<&Away>,
) -> Result<Write, Problem> {
    let (idempotency, replay, away) = (idempotency.cloned(), replay.map(str::to_owned), away.cloned());
    let record = Record { call, idempotency, replay, away };
    let value = serde_json::to_vec(&record)
        .map_err(|error| Problem::new(Code::Internal, format!("a call can't be written down: {error}")))?;
    Ok(Write::put(Table::Calls, call.id.to_string(), value))
}

/// The leg that `purpose` adds, as an input.
pub(crate) fn routed(purpose: Purpose, leg: NewLeg) -> Input {
    Input::Routed { purpose, leg }
}
