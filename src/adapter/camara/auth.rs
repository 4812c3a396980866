//! Who asks: a token with the operation's scope, and the phone number that the token is for.

use http::{HeaderMap, header};

use super::error::{Code, Failure};
use super::phone::PhoneNumber;
use crate::identity::principal::{Principal, UserId};
use crate::protocol::problem::Problem;
use crate::protocol::time::Timestamp;
use crate::service::Service;

/// A user whose token has one of these scopes; the token may name any numbers, or none.
pub(super) async fn holder(
    service: &Service,
    authorization: Option<&str>,
    scopes: &[&'static str],
) -> Result<Principal, Failure> {
    let principal = service.holder(authorization).await?;
    if principal.is_trunk() {
        let why = "another server's token has no devices; use a token of a user";
        return Err(Failure::new(Code::PermissionDenied, why));
    }
    if !scopes.iter().any(|scope| principal.has_scope(scope)) {
        return Err(Problem::lacks_scope(scopes.first().copied().unwrap_or_default()).into());
    }
    Ok(principal)
}

/// The holder of a token that may do what it asks for.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) user: UserId,
    pub(super) number: PhoneNumber,
    principal: Principal,
}

impl Caller {
    /// Checks a request's token for one operation.
    pub(super) async fn of(
        service: &Service,
        headers: &HeaderMap,
        scope: &'static str,
    ) -> Result<Self, Failure> {
        let authorization = headers.get(header::AUTHORIZATION);
        Self::of_any(service, authorization.and_then(|value| value.to_str().ok()), &[scope]).await
    }

    /// Checks a token, however it came, that is to have one of some scopes.
    pub(super) async fn of_any(
        service: &Service,
        authorization: Option<&str>,
        scopes: &[&'static str],
    ) -> Result<Self, Failure> {
        let principal = holder(service, authorization, scopes).await?;
        // webrtc-registration.yaml, createRegistration: the number is the token's, never the body's.
        let number = principal.numbers.iter().find_map(|number| number.parse().ok());
        let number = number.ok_or_else(|| {
            let why = "phoneNumber: the access token names no single number; ask for one that is bound to an \
                       E.164 number";
            Failure::new(Code::InvalidTokenContext, why)
        })?;
        Ok(Self { user: principal.user(), number, principal })
    }

    /// The token's holder.
    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether the token was issued for this too.
    pub(super) fn has_scope(&self, scope: &str) -> bool {
        self.principal.has_scope(scope)
    }

    /// How long what the token opens stays open: as long as the token would be taken.
    pub(super) fn lasts(&self, service: &Service) -> Timestamp {
        self.principal.expires + service.settings.tokens.leeway
    }

    /// Demands that the token still speaks for a number.
    pub(super) fn speaks_for(&self, number: &PhoneNumber) -> Result<(), Failure> {
        if self.principal.may_use_number(number.as_str()) {
            return Ok(());
        }
        let why =
            "phoneNumber is not consistent with the access token: the registration is for another number";
        Err(Failure::new(Code::InvalidTokenContext, why))
    }
}
