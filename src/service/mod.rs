//! L2: what runs.

pub mod settings;

pub use settings::{Settings, TgSettings};

use std::sync::Arc;

use crate::store::{Store, StoreError};

/// A stub, so that the command line compiles.
#[derive(Debug)]
pub struct Service {
    /// What it was told.
    pub settings: Settings,
}

impl Service {
    /// Starts.
    pub async fn start(settings: Settings, _store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { settings }))
    }

    /// Tells all calls to migrate.
    pub async fn drain(&self) {}
}
