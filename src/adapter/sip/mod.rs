//! SIP: dialogs and user agents of our own on rsipstack's parser, transactions and transports; calls as RTP.
//!
//! | for | look in |
//! |---|---|
//! | a call's signalling, pure | [`ua`] |
//! | a call's media | [`rtp`] |
//! | passwords | [`digest`] |
//! | the parts of a header's value | [`value`] |

pub mod digest;
pub mod rtp;
pub mod ua;
pub mod value;
