//! CAMARA's `Address`.
