//! L2: what survives a restart.

pub mod embedded;
