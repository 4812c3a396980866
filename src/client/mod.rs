//! L5: the thick client.

pub mod audio;
