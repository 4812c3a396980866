//! SIP: dialogs and user agents of our own on rsipstack's parser, transactions and transports; calls as RTP.
//!
//! | for | look in |
//! |---|---|
//! | a call's signalling, pure | [`ua`] |
//! | a call's media | [`rtp`] |
//! | sockets | `stack`, `datagrams`, `streams` (`connection`, `frame`, `tls`); whose a message is: `routes`, `beginning`; who is heard: `guard`, `watch`, `strict` |
//! | requests that come before their calls are taken up again | `hold` |
//! | a user agent's place there | `seat`; at work: `agent` |
//! | where requests go | `hop`, by DNS: `names`; whether somebody is there: `ping` |
//! | passwords | [`digest`] |
//! | the parts of a header's value | [`value`] |

mod agent;
mod beginning;
mod connection;
mod datagrams;
pub mod digest;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod hold;
mod hop;
mod names;
pub(crate) mod ping;
mod reply;
mod routes;
pub mod rtp;
mod seat;
mod stack;
mod streams;
mod strict;
mod tls;
pub mod ua;
pub mod value;
mod watch;

pub use agent::{Agent, Beside, Keeping};
pub use beginning::{Beginning, Responder};
pub use hop::{Hop, NoHop, uri};
pub use reply::response as answer;
pub use seat::Seat;
pub use stack::{Habits, Listen, PRODUCT, Stack};
pub use tls::TlsFiles;
