//! L0: the wire as plain data. No IO, no clock, nothing from the rest of the crate.

pub mod ack;
pub mod advertisement;
pub mod chunk;
pub mod codec;
pub mod directive;
pub mod event;
pub mod id;
pub mod network;
pub mod number;
pub mod problem;
pub mod resource;
pub mod schema;
pub mod time;
pub mod varint;
