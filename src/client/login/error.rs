//! Why a login failed, and what to do about it. No message holds a token, a code or a verifier.

use std::path::PathBuf;

/// Why a login, or keeping one fresh, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// What was given as a domain is none.
    #[error("{0}")]
    Domain(String),
    /// The domain has no document that says where to log in.
    #[error(
        "{domain} offers no login: {reason}; ask its operator for `/.well-known/ript-oauth`, or use a token with --token"
    )]
    NotOffered {
        /// The domain.
        domain: String,
        /// What was seen.
        reason: String,
    },
    /// The domain, or its identity provider, doesn't answer.
    #[error("{server} can't be reached: {reason}; is it running, and is the name right?")]
    Unreachable {
        /// Host and port.
        server: String,
        /// What was seen.
        reason: String,
    },
    /// A certificate leads to none of our roots.
    #[error("{server} isn't trusted: {reason}; pass the CA that its certificate comes from with --ca FILE")]
    Untrusted {
        /// Host and port.
        server: String,
        /// What TLS said.
        reason: String,
    },
    /// An answer that OAuth doesn't allow.
    #[error("{what} isn't what it should be: {reason}; this is for the domain's operator to repair")]
    Protocol {
        /// Whose answer.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The identity provider said no.
    #[error("the identity provider refused: {code}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Refused {
        /// RFC 6749 §5.2: the code, for programs.
        code: String,
        /// The provider's words.
        detail: String,
    },
    /// The domain doesn't offer this way to log in.
    #[error("{domain} offers no {flow}; {instead}")]
    NoFlow {
        /// The domain.
        domain: String,
        /// The way that was asked for.
        flow: &'static str,
        /// The way to try.
        instead: &'static str,
    },
    /// Nobody confirmed the login in time.
    #[error("nobody confirmed the login in time; start it again")]
    TimedOut,
    /// The login can't be renewed any more.
    #[error("the login at {domain} has ended ({code}); `ript login {domain}` starts another")]
    Ended {
        /// The domain.
        domain: String,
        /// RFC 6749 §5.2: the provider's code.
        code: String,
    },
    /// There is no login of this domain.
    #[error("there is no login at {domain}; `ript login {domain}` starts one")]
    None {
        /// The domain.
        domain: String,
    },
    /// The file of a login can't be read or written.
    #[error("{}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of a login holds something else.
    #[error("{}: {reason}; move it away and log in again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// This machine lacks what a login needs.
    #[error("{what}: {reason}")]
    Local {
        /// What is needed.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl LoginError {
    pub(super) fn local(what: &'static str, reason: impl ToString) -> Self {
        Self::Local { what, reason: reason.to_string() }
    }

    pub(super) fn protocol(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Protocol { what: what.into(), reason: reason.to_string() }
    }

    /// Whether only a new login helps.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::None { .. })
    }
}
