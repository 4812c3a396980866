//! L1: who somebody is, given keys and a time: tokens, PASSporTs, certificates.

pub mod devca;
pub mod jws;
pub mod passport;
pub mod principal;
pub mod token;
