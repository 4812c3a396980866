//! L5: the thick client, a library first.
//!
//! ```no_run
//! # async fn tour() -> Result<(), ript::client::ClientError> {
//! use ript::client::{AudioCall, AudioOptions, Client, HandlerSpec};
//!
//! let client = Client::builder("https://ript.example").token("…").passport_key("…pem…").connect().await?;
//! let tg = client.tgs().await?.remove(0);
//! let device = client.register(&tg.uri, HandlerSpec::audio()).await?;
//! let call = device.place("+14085551000", None).await?;
//! let audio = AudioCall::start(&call, AudioOptions::default())?;
//! let end = call.ended().await;
//! println!("{end:?}, opinion score {:?}", audio.stats().mos);
//! # Ok(()) }
//! ```
//!
//! | to find | look in |
//! |---|---|
//! | the connection, and how it comes back | `link` |
//! | a request for every resource | `api` |
//! | what a TG allows, known before a call is placed | `rules` |
//! | registering a device, placing calls, being called | `handler`, `listener` |
//! | one call: its state, its events, what can be done to it | `call` |
//! | events both ways, resumed after a loss | `signalling` |
//! | chunks both ways, without codecs | `media` |
//! | logging in, and tokens that renew themselves | [`login`] |
//! | codecs, files, recording, microphone | `audio_call`, `audio`, `device` |

mod api;
pub mod audio;
mod audio_call;
mod builder;
mod call;
#[cfg(feature = "device")]
pub mod device;
mod dtmf;
mod enrol;
mod error;
mod handler;
mod link;
mod listener;
pub mod login;
mod media;
mod rules;
mod signalling;
mod task;
mod uri;

pub use audio_call::{AudioCall, AudioOptions, AudioSource, AudioStats, Listen};
pub(crate) use builder::Guard;
pub use builder::{Builder, Client};
pub use call::{Call, CallEvent, CallEvents, CallStats, EndInfo, Happened};
pub use error::{Blame, ClientError, Refusal};
pub use handler::{Handler, HandlerSpec};
pub use listener::{IncomingCall, Listener};
pub(crate) use media::passed::{Passage, Requests};
pub use media::{MediaFrame, MediaGap, MediaOptions, MediaPath, MediaPort, MediaStats, OutFrame};
pub use signalling::ForwardMode;
