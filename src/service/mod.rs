//! L2: what runs.

pub mod settings;

pub use settings::{Settings, TgSettings};
