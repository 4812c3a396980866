//! The `ript` binary.

fn main() {}
