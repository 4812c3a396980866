//! L4: the same calls in other networks' words.

pub mod camara;
pub mod ims;
pub mod mapping;
pub mod operator;
pub mod sip;
pub mod webrtc;
