//! L4: the same calls in other networks' words.

pub mod camara;
pub mod mapping;
pub mod webrtc;
