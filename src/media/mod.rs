//! L1: what media does, without sockets: the relay's decisions, acknowledgements, quality, jitter.

pub mod audio;
pub mod engine;
pub mod jitter;
pub mod ledger;
pub mod quality;
pub mod relay;
