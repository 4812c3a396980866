//! SIP: dialogs and user agents of our own on rsipstack's parser, transactions and transports; calls as RTP.
//!
//! | for | look in |
//! |---|---|
//! | a call's signalling, pure | [`ua`] |
//! | a call's media | [`rtp`] |

pub mod rtp;
pub mod ua;
