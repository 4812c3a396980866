//! Who asks: the holder of a request's bearer token, whichever API it is for.

use super::Service;
use crate::identity::principal::Principal;
use crate::protocol::problem::{Code, Problem};

impl Service {
    /// Who holds the token of an `Authorization` header; none: there is no such header, or no readable one.
    pub async fn holder(&self, authorization: Option<&str>) -> Result<Principal, Problem> {
        let missing = || {
            let why = "send `Authorization: Bearer` with a token of a configured issuer";
            Problem::new(Code::Unauthorized, why)
        };
        let text = authorization.ok_or_else(missing)?;
        // RFC 9110 §11.1: the scheme is compared without case.
        let scheme = text.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer "));
        let token = scheme.ok_or_else(missing)?.1.trim();
        // A token that this server gave another server is no issuer's.
        if let Some(peer) = self.settings.gateway.as_ref().and_then(|gateway| gateway.holder(token)) {
            self.audit.login(&peer);
            return Ok(peer);
        }
        match self.tokens.verify(token).await {
            Ok(principal) => {
                self.audit.login(&principal);
                Ok(principal)
            }
            Err(error) => {
                let problem = error.into();
                self.audit.token_refused(&problem);
                Err(problem)
            }
        }
    }
}
