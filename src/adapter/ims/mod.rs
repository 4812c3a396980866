//! What an operator's IMS asks of a SIP user agent: registrations, identities and headers of its own. All of it is pure.
//!
//! | for | look in |
//! |---|---|
//! | an account's registration | [`registration`] |
//! | an account's registration | [`registration`] |
//! | who calls whom: written, and read of what comes in | [`headers`], [`caller`], over [`phone`] |
//! | PASSporTs in SIP (STIR) | [`identity`] |
//! | emergency calls | [`emergency`] |
//! | what proves it | [`login`]: a password, or a SIM's keys ([`aka`]) |

pub mod aka;
pub mod caller;
pub mod emergency;
pub mod headers;
pub mod identity;
pub mod login;
pub mod phone;
pub mod registration;
