//! SIP: dialogs and user agents of our own on rsipstack's parser, transactions and transports; calls as RTP.
//!
//! | for | look in |
//! |---|---|
//! | a call's signalling, pure | [`ua`] |
//! | a call's media | [`rtp`] |
//! | sockets, and whose a message is | `stack`, `streams`; who is heard: `guard`, `strict` |
//! | requests that come before their calls are taken up again | `hold` |
//! | a user agent's place there | `seat`; at work: `agent` |
//! | where requests go | `hop`; whether somebody is there: `ping` |
//! | passwords | [`digest`] |
//! | the parts of a header's value | [`value`] |

mod agent;
pub mod digest;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod hold;
mod hop;
pub(crate) mod ping;
mod reply;
pub mod rtp;
mod seat;
mod stack;
mod streams;
mod strict;
pub mod ua;
pub mod value;

pub use agent::{Agent, Beside, Keeping};
pub use hop::{Hop, NoHop, resolve, uri};
pub use reply::response as answer;
pub use seat::Seat;
pub use stack::{Beginning, Listen, PRODUCT, Responder, Stack};
pub use streams::TlsFiles;
