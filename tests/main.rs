//! Everything that is tested from outside, in one program; one behaviour a file.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests may fail loudly")]

mod calls;
mod client_calls;
mod client_survives;
mod common;
mod layers;
mod vectors_advertisement;
mod vectors_chunk;
