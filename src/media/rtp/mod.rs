//! RTP beside RIPT's chunks, without sockets: what the legs of other networks share.
//!
//! | for | look in |
//! |---|---|
//! | sequence numbers and timestamps | [`numbering`] |
//! | one audio stream's packets as chunks and back | [`lane`] |

pub mod lane;
pub mod numbering;
