//! L1: what media does, without sockets: the relay's decisions, acknowledgements, quality, jitter.

pub mod audio;
pub(crate) mod dtmf;
pub mod engine;
pub mod jitter;
pub mod ledger;
pub mod quality;
pub mod relay;
pub mod rtp;
