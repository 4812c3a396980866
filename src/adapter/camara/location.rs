//! CAMARA's `LocationDetails`.

use serde_json::Value;

/// Where a party said that its device is: checked, and kept as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Location(pub(super) Value);
