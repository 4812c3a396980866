//! `POST …/providertgs/{tg}/certs`: a certificate for a number or address of one's own.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::App;
use super::auth::{Caller, P, scope};
use super::reply;
use crate::clock;
use crate::identity::enrol::{self, EnrolError};
use crate::protocol::problem::{Code, Problem};

const CHAIN: &str = "application/pem-certificate-chain";

pub(super) async fn enrol(
    State(app): State<App>,
    caller: Caller,
    P(tg): P<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut number = None;
    let answer = issue(&app, &caller, &tg, &headers, body, &mut number).await;
    let refused = answer.as_ref().err().map(|problem| problem.code);
    app.service.audit.enrolment(&caller.user(), number.as_deref(), refused);
    answer
}

async fn issue(
    app: &App,
    caller: &Caller,
    tg: &str,
    headers: &HeaderMap,
    body: Body,
    number: &mut Option<String>,
) -> Result<Response, Problem> {
    caller.scope(scope::CERTS)?;
    caller.tg(app, tg)?;
    let settings = &app.service.settings;
    if settings.enroller.is_none() && settings.gateway.is_none() {
        return Err(nobody());
    }
    let body = reply::body(body, app.settings.max_body).await?;
    let csr = decoded(headers, &body)?;
    app.service.pace_enrolment(&caller.user())?;
    let mut may_use = |identity: &crate::identity::canonical::Identity| {
        *number = identity.to_number();
        number.as_ref().is_some_and(|number| caller.0.may_use_number(number))
    };
    let chain = match &settings.enroller {
        Some(enroller) => enroller.enrol(&csr, may_use, clock::now()).map_err(refused)?,
        None => {
            let identity = enrol::wanted(&csr).map_err(refused)?;
            if !may_use(&identity) {
                return Err(refused(EnrolError::NotYours));
            }
            let number = identity.to_number().and_then(|number| number.parse().ok());
            let number = number.ok_or_else(|| refused(EnrolError::NotYours))?;
            app.service.gateway().map_err(|_| nobody())?.enrol(csr, number).await?
        }
    };
    let mut response = (StatusCode::OK, chain).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CHAIN));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn nobody() -> Problem {
    Problem::new(Code::NotFound, "this server enrols nobody: certificates come from elsewhere")
}

fn refused(error: EnrolError) -> Problem {
    match error {
        EnrolError::Request(why) => Problem::new(Code::BadCsr, why).field("csr"),
        EnrolError::NotYours => Problem::new(Code::NumberNotAllowed, error.to_string()).field("csr"),
        EnrolError::Issuer(why) => {
            tracing::error!(why, "no certificate could be issued");
            Problem::new(Code::Internal, "no certificate can be issued now")
        }
    }
}

/// The request in DER, from either form.
fn decoded(headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let bad = |why: &str| Problem::new(Code::BadCsr, why);
    match kind.as_str() {
        "application/pkcs10" => Ok(body.to_vec()),
        "application/x-pem-file" => {
            let wrong = || bad("the body is no PEM section CERTIFICATE REQUEST").field("csr");
            let text = std::str::from_utf8(body).map_err(|_| wrong())?;
            let inner = text.split_once("REQUEST-----").and_then(|(_, rest)| rest.split_once("-----END"));
            let (base64, _) = inner.ok_or_else(wrong)?;
            let base64: String = base64.split_ascii_whitespace().collect();
            base64::engine::general_purpose::STANDARD.decode(base64).map_err(|_| wrong())
        }
        _ => Err(bad("send the request as application/pkcs10 (DER) or application/x-pem-file")
            .field("Content-Type")),
    }
}
