//! Who asks, and for what: `{userId}`, `clientId` and `transactionId`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use uuid::Uuid;

use crate::adapter::camara::Camara;
use crate::adapter::camara::address::Address;
use crate::adapter::camara::auth::Caller;
use crate::adapter::camara::body::{bad, uuid};
use crate::adapter::camara::error::{Code, Failure};
use crate::adapter::camara::phone::PhoneNumber;
use crate::adapter::camara::registration::Registration;
use crate::clock;
use crate::protocol::network::Authority;

const TRANSACTION: HeaderName = HeaderName::from_static("transactionid");
const CLIENT: HeaderName = HeaderName::from_static("clientid");

/// The longest name that is taken.
const MAX: usize = 256;

/// One or more parameters of the path.
pub(super) type Names<T> = Result<Path<T>, PathRejection>;

/// The beginning of absolute URIs.
pub(super) type Base = Option<Extension<Authority>>;

/// As text; nothing where the authority is unknown, so that URIs are relative.
pub(super) fn base(base: Base) -> String {
    base.map(|Extension(Authority(base))| base).unwrap_or_default()
}

/// What a request brings, its answer carries back.
pub(super) async fn echo(request: Request, next: Next) -> Response {
    let transaction = the_one(request.headers(), &TRANSACTION).cloned();
    let mut response = next.run(request).await;
    if let Some(transaction) = transaction {
        response.headers_mut().insert(TRANSACTION, transaction);
    }
    response
}

/// The path's names; those that are no text are refused.
pub(super) fn names<T>(names: Names<T>) -> Result<T, Failure> {
    names.map(|Path(names)| names).map_err(|_| bad("path", "its parts are to be text in UTF-8"))
}

/// `{userId}`, to be looked at after the token, and what follows it.
pub(super) fn split(path: Names<(String, String)>) -> (Names<String>, String) {
    match path {
        Ok(Path((user, rest))) => (Ok(Path(user)), rest),
        Err(error) => (Err(error), String::new()),
    }
}

/// The token's holder, who may do what one of these scopes is for.
pub(super) async fn caller(
    app: &Camara,
    headers: &HeaderMap,
    scopes: &[&'static str],
) -> Result<Caller, Failure> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    Caller::of_any(&app.service, authorization, scopes).await
}

/// As [`caller`], for the number in the path, with a transaction.
pub(super) async fn user(
    app: &Camara,
    headers: &HeaderMap,
    scopes: &[&'static str],
    user: Names<String>,
) -> Result<Caller, Failure> {
    let caller = caller(app, headers, scopes).await?;
    let named = number(&names(user)?).ok_or_else(|| {
        bad(
            "userId",
            "a number is expected, as in tel:+14085551000, sip:+14085551000@example.com or +14085551000",
        )
    })?;
    if named != caller.number {
        let why = "userId: it is not the number that the access token is for";
        return Err(Failure::new(Code::PermissionDenied, why));
    }
    transaction(headers)?;
    Ok(caller)
}

/// hdrTransactionId: required.
pub(super) fn transaction(headers: &HeaderMap) -> Result<(), Failure> {
    let why = "1 to 256 visible characters are expected in this header, once";
    the_one(headers, &TRANSACTION).map(drop).ok_or_else(|| bad("transactionId", why))
}

/// hdrClientId: required.
pub(super) fn client(headers: &HeaderMap) -> Result<&str, Failure> {
    let found = the_one(headers, &CLIENT).and_then(|value| value.to_str().ok());
    found.ok_or_else(|| {
        bad(
            "clientId",
            "the clientId that POST /racm/v1/{userId}/session gave is expected in this header, once",
        )
    })
}

/// The registration that a clientId stands for.
pub(super) fn registration(app: &Camara, caller: &Caller, client: &str) -> Result<Registration, Failure> {
    let id = uuid(client);
    let found = id.and_then(|id| app.registrations.get(clock::now(), &caller.user, id).ok());
    // BYON-*.yaml, Generic403: "Device not authorized".
    found.ok_or_else(not_authorized)
}

/// The clientId is nobody's, or somebody else's.
pub(super) fn not_authorized() -> Failure {
    let why = "clientId: it stands for none of your devices; POST /racm/v1/{userId}/session gives one";
    Failure::new(Code::PermissionDenied, why)
}

/// A name that is none of ours is nil, which names nothing.
pub(super) fn known(text: &str) -> Uuid {
    uuid(text).unwrap_or_default()
}

/// `{userId}`: a tel or sip URI, or the number itself.
pub(super) fn number(text: &str) -> Option<PhoneNumber> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let address: Address = text.parse().ok()?;
    address.number()?.to_string().parse().ok()
}

fn the_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let (one, None) = (lines.next()?, lines.next()) else { return None };
    let fits = (1..=MAX).contains(&one.len()) && one.as_bytes().iter().all(u8::is_ascii_graphic);
    fits.then_some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_number_in_three_ways() {
        for good in [
            "+14085550001",
            "tel:+14085550001",
            "sip:+14085550001@ims.example.com",
            "sip:%2B14085550001@example.com",
        ] {
            assert_eq!(number(good).unwrap().as_str(), "+14085550001", "{good}");
        }
        for bad in [
            "",
            "14085550001",
            "tel:14085550001",
            "alice",
            "sip:alice@example.com",
            "urn:service:sos",
            "+",
            "userId",
        ] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_is_there_once_and_visible() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSACTION, HeaderValue::from_static(value));
            }
            transaction(&headers).is_ok()
        };
        assert!(with(&["a"]) && with(&["9e3b-{}:/"]));
        assert!(!with(&[]) && !with(&[""]) && !with(&["a b"]) && !with(&["a", "a"]));
        let long: &'static str = Box::leak("x".repeat(257).into_boxed_str());
        assert!(with(&[&long[1..]]) && !with(&[long]));
    }

    proptest::proptest! {
        #[test]
        fn any_user_id_is_taken_or_refused_without_panic(text in ".{0,80}", near in "(tel:|sip:)?[+0-9@.;%a]{0,40}") {
            for text in [text, near] {
                let _ = number(&text);
            }
        }
    }
}
