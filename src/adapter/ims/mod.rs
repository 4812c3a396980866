//! Telephone networks: an operator's IMS, or any SIP trunk. Calls leave for them and come from them, with the identities and
//! headers that an operator checks.
//!
//! | for | look in |
//! |---|---|
//! | a trunk or an account, and how a call leaves by it | `way` |
//! | an account's registration | [`registration`], kept up by `account` |
//! | calls that come in | `arriving` |
//! | a call's events, passed on | `bridge`, `far`; its media: `media`; who its dialog is: `dialogs` |
//! | who calls whom: written, and read of what comes in | [`headers`], [`caller`], over [`phone`] |
//! | what proves it | [`login`]: a password, or a SIM's keys ([`aka`]) |

pub mod aka;
pub mod caller;
mod dialogs;
pub mod headers;
pub mod login;
pub mod phone;
pub mod registration;
mod settings;

pub use settings::{AccountSettings, Secret, Settings, TrunkSettings, WaySettings};
