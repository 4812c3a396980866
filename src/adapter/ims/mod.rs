//! What an operator's IMS asks of a SIP user agent: registrations, identities and headers of its own.

mod dialogs;
mod settings;

pub use settings::{AccountSettings, Secret, Settings, Srtp, TrunkSettings, WaySettings};
