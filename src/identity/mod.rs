//! L1: who somebody is, given keys and a time: tokens, PASSporTs, certificates.
//!
//! | question | file |
//! |---|---|
//! | is this signature good, and by which key? | `jws`, `jwk` |
//! | who sends this request, and what may they do? | `token` → `principal` |
//! | who calls? | `passport`, over `canonical` identities; `replay` |
//! | who may speak for a number? | `certificate`, with its `tn_auth_list` |
//! | which certificates are fetched? | `x5u` |
//! | a certificate for a number | `enrol` |
//! | certificates for a machine that has none | `devca` |

pub mod canonical;
pub mod certificate;
pub mod devca;
pub mod enrol;
pub mod jwk;
pub mod jws;
pub mod passport;
pub mod principal;
pub mod replay;
pub mod tn_auth_list;
pub mod token;
pub mod x5u;

mod der;
mod json;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod passport_tests;
#[cfg(test)]
mod vectors;

/// The SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}
