//! Everything that is tested from outside, in one program; one behaviour a file.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests may fail loudly")]

mod calls;
mod client_calls;
mod common;
mod layers;
mod media_byways;
mod media_crash;
mod media_dtmf;
mod media_load;
mod media_many_sessions;
mod media_quality;
mod media_relay;
mod media_session;
mod media_streams;
mod vectors_advertisement;
mod vectors_chunk;
