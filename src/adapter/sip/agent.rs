//! A user agent at work: the pure core, its place at the SIP end, and the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rsipstack::sip::{Method, Request};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::beginning::Beginning;
use super::hop::Hop;
use super::reply;
use super::seat::Seat;
use super::stack::Stack;
use super::ua::{Command, DialogId, Event, Input, Kept, Output, Profile, Refused, Ua};
use crate::clock;

/// Events that wait for whoever owns the call.
const EVENTS: usize = 64;
/// Commands that wait for the user agent.
const COMMANDS: usize = 32;

/// Adds to an INVITE: another body beside its offer, and what names it.
pub struct Beside(pub Box<dyn Fn(&mut Request) + Send + Sync>);

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

/// What its owner holds of a call; dropped, the call is ended without a word: say [`Command::End`] first.
#[derive(Debug)]
pub struct Agent {
    commands: mpsc::Sender<Command>,
    /// What happens; closed after [`Event::Ended`].
    pub events: mpsc::Receiver<Event>,
    name: watch::Receiver<Option<DialogId>>,
    /// What is to be written down.
    pub kept: Keeping,
    task: Option<AbortHandle>,
    /// The call is left as it is.
    left: Arc<AtomicBool>,
}

/// A call as it is to be written down.
#[derive(Debug)]
pub struct Keeping(watch::Receiver<Option<Kept>>);

impl Keeping {
    /// As it is now, once it stands; no event comes before what it is about can be read here.
    pub fn now(&mut self) -> Option<Kept> {
        self.0.borrow_and_update().clone()
    }

    /// Returns when that has changed.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // It is over, as an event tells.
            std::future::pending().await
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            // It may be at work, and see its owner gone before it is stopped.
            self.left.store(true, Ordering::Relaxed);
            task.abort();
        }
    }
}

impl Agent {
    /// Calls, by this hop first of all. `beside`: what the INVITE carries beside its offer.
    pub fn place(
        stack: &Arc<Stack>,
        profile: Profile,
        offer: Option<String>,
        (via, hop): (&str, Hop),
        beside: Option<Beside>,
    ) -> Self {
        let mut seat = Seat::new(stack);
        seat.prefer(via, hop);
        let ua = Ua::place(clock::instant(), profile, offer);
        Self::start(stack, seat, ua, beside)
    }

    /// Takes a call in; none: it was refused.
    pub fn arrive(stack: &Arc<Stack>, beginning: Beginning, profile: Profile) -> Option<Self> {
        let (mut seat, id, invite) = Seat::of(stack, beginning);
        match Ua::arrive(clock::instant(), profile, id, invite) {
            Ok(ua) => Some(Self::start(stack, seat, ua, None)),
            Err(refusal) => {
                seat.respond(id, *refusal);
                None
            }
        }
    }

    /// Takes a call up again that was written down, with an offer; none: what was written can't be used.
    pub fn resume(stack: &Arc<Stack>, profile: Profile, kept: Kept, offer: &str) -> Option<Self> {
        let ua = Ua::resume(clock::instant(), profile, kept, offer)?;
        Some(Self::start(stack, Seat::new(stack), ua, None))
    }

    fn start(stack: &Stack, mut seat: Seat, ua: Ua, beside: Option<Beside>) -> Self {
        seat.claim(ua.call_id(), ua.local_tag());
        let (commands, wanted) = mpsc::channel(COMMANDS);
        let (happened, events) = mpsc::channel(EVENTS);
        let (names, name) = watch::channel(ua.dialog());
        let (keeps, kept) = watch::channel(ua.kept());
        let left = Arc::new(AtomicBool::new(false));
        let owner = Owner { wanted, happened, names, keeps, left: Arc::clone(&left) };
        let task = stack.spawn(run(seat, ua, beside, owner));
        Self { commands, events, name, kept: Keeping(kept), task: Some(task), left }
    }

    /// The dialog's names as they are now.
    pub fn dialog(&self) -> Option<DialogId> {
        self.name.borrow().clone()
    }

    /// Says what our side wants; what doesn't fit is told by no event. False: the call is over, or hangs.
    pub fn say(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Ends it, and lets the far side be told in peace.
    pub fn end(mut self, command: Command) {
        self.say(command);
        // The task ends by itself once the far side has answered.
        self.task = None;
    }
}

/// The first INVITE carries more than its offer; what follows in the dialog doesn't.
fn whole(mut request: Request, beside: Option<&Beside>) -> Request {
    if let (Some(Beside(add)), Method::Invite, None) = (beside, request.method, reply::to_tag(&request)) {
        add(&mut request);
    }
    request
}

/// The other ends of what an [`Agent`] is.
struct Owner {
    wanted: mpsc::Receiver<Command>,
    happened: mpsc::Sender<Event>,
    names: watch::Sender<Option<DialogId>>,
    keeps: watch::Sender<Option<Kept>>,
    left: Arc<AtomicBool>,
}

async fn run(
    mut seat: Seat,
    mut ua: Ua,
    beside: Option<Beside>,
    Owner { mut wanted, happened, names, keeps, left }: Owner,
) {
    let mut deaf = false;
    // Our newest offer, while another one is out.
    let mut waits: Option<String> = None;
    loop {
        if let Some(now) = ua.kept() {
            keeps.send_if_modified(|kept| {
                let changed = !kept.as_ref().is_some_and(|kept| kept.serves(&now));
                if changed {
                    *kept = Some(now);
                }
                changed
            });
        }
        while let Some(output) = ua.poll() {
            match output {
                Output::Request(id, request) => seat.request(id, whole(request, beside.as_ref())).await,
                Output::Cancel(id, reason) => seat.cancel(id, reason).await,
                Output::Ack(ack) => seat.acknowledge(ack).await,
                Output::Respond(id, response) => seat.respond(id, response),
                Output::Event(event) => {
                    names.send_if_modified(|name| {
                        let now = ua.dialog();
                        std::mem::replace(name, now.clone()) != now
                    });
                    // An owner that is gone hears nothing; the dialog ends in order all the same.
                    let _ = happened.send(event).await;
                }
            }
        }
        if ua.is_over() {
            return;
        }
        let input = tokio::select! {
            input = seat.next() => input,
            command = wanted.recv(), if !deaf => match command {
                Some(command) => Input::Do(command),
                None if left.load(Ordering::Relaxed) => return,
                None => {
                    deaf = true;
                    Input::Do(Command::End { reason: None })
                }
            },
            () = clock::until(ua.next_timeout()) => Input::Tick,
        };
        let mut done = Ok(());
        match input {
            Input::Do(Command::Offer(sdp)) => waits = Some(sdp),
            input => done = ua.handle(clock::instant(), input),
        }
        if let Some(sdp) = waits.take() {
            match ua.handle(clock::instant(), Input::Do(Command::Offer(sdp.clone()))) {
                Err(Refused::OfferOut) => waits = Some(sdp),
                Err(refused) => tracing::debug!(%refused, "an offer fits no more"),
                Ok(()) => {}
            }
        }
        // Requests are answered by it, whatever they are.
        if let Err(refused) = done {
            tracing::debug!(%refused, "a SIP call takes no such thing now");
        }
    }
}
