//! Everything that is tested from outside, in one program; one behaviour a file.

mod vectors_advertisement;
mod vectors_chunk;
