//! A telephone behind a trunk: its SIP and its sound.

use std::sync::{Arc, Mutex};

use ript::adapter::sip::Agent;
use ript::adapter::sip::ua::{Command, DialogId, Event};
use ript::client::audio::AudioCodec;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::phone::{Phone, Set};
use super::soon;

/// A call's telephone: it takes every offer and speaks a file.
pub struct Telephone {
    pub sound: Arc<Phone>,
    says: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    dialog: Arc<Mutex<Option<DialogId>>>,
    task: JoinHandle<()>,
}

impl Drop for Telephone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Telephone {
    /// What it sounds like, before it is in a call.
    pub async fn sound(codec: AudioCodec, file: &'static [u8]) -> Arc<Phone> {
        Arc::new(Phone::new(Set::new(codec), file).await)
    }

    /// In this call.
    pub fn of(agent: Agent, sound: &Arc<Phone>) -> Self {
        let (says, said) = mpsc::unbounded_channel();
        let (happened, events) = mpsc::unbounded_channel();
        let dialog = Arc::<Mutex<Option<DialogId>>>::default();
        let task = tokio::spawn(run(agent, sound.clone(), said, happened, dialog.clone()));
        Self { sound: sound.clone(), says, events, dialog, task }
    }

    pub fn say(&self, command: Command) {
        self.says.send(command).expect("the telephone is there");
    }

    pub fn ring(&self) {
        self.say(Command::Ring { answer: None });
    }

    pub fn answer(&self) {
        self.say(Command::Accept { sdp: self.sound.sdp("sendrecv") });
    }

    pub fn refuse(&self, code: u16) {
        self.say(Command::Reject { code, retry_after: None, reason: None });
    }

    pub fn hang_up(&self) {
        self.say(Command::End { reason: None });
    }

    /// RFC 3891: its dialog, as the server reads it; after its first event.
    pub fn replaces(&self) -> String {
        self.dialog.lock().unwrap().as_ref().expect("a dialog").replaces()
    }

    pub async fn saw(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        soon("an event at the telephone", async {
            loop {
                let event = self.events.recv().await.expect("the call goes on");
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// The code with which it ended; none: BYE.
    pub async fn ended(&mut self) -> Option<u16> {
        let Event::Ended(ending) = self.saw(|event| matches!(event, Event::Ended(_))).await else {
            unreachable!()
        };
        ending.code
    }
}

async fn run(
    mut agent: Agent,
    sound: Arc<Phone>,
    mut said: mpsc::UnboundedReceiver<Command>,
    happened: mpsc::UnboundedSender<Event>,
    dialog: Arc<Mutex<Option<DialogId>>>,
) {
    let mut up = false;
    loop {
        tokio::select! {
            event = agent.events.recv() => {
                let Some(event) = event else { return };
                *dialog.lock().unwrap() = agent.dialog();
                match &event {
                    Event::Offered(sdp) => {
                        sound.take(sdp);
                        if up {
                            let held = sdp.contains("a=sendonly") || sdp.contains("a=inactive");
                            agent.say(Command::Answer(sound.sdp(if held { "recvonly" } else { "sendrecv" })));
                        }
                    }
                    Event::Described(sdp) => sound.take(sdp),
                    Event::Answered => up = true,
                    _ => {}
                }
                let _ = happened.send(event);
            }
            command = said.recv() => match command {
                Some(command) => {
                    up |= matches!(command, Command::Accept { .. });
                    assert!(agent.say(command), "the call takes a command");
                }
                None => return,
            },
        }
    }
}

/// Waits until both hear the other.
pub async fn hear_each_other(one: &Telephone, other: &Telephone) {
    tokio::join!(one.sound.hears(20), other.sound.hears(20));
}
