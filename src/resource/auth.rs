//! Who asks: the bearer token of every request, or the ticket that stands for it.

use axum::extract::{FromRequestParts, Path, Query};
use http::header;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::App;
use crate::identity::principal::Principal;
use crate::protocol::id::{LegId, TgId};
use crate::protocol::problem::{Code, Problem};
use crate::service::actor::CallHandle;
use crate::service::registry::Handler;

/// The holder of a verified token.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        principal(parts, app).await.map(Self)
    }
}

pub(crate) async fn principal(parts: &Parts, app: &App) -> Result<Principal, Problem> {
    let authorization = parts.headers.get(header::AUTHORIZATION);
    app.service.holder(authorization.and_then(|value| value.to_str().ok())).await
}

impl Caller {
    /// The user's name in stores and logs.
    pub(crate) fn user(&self) -> String {
        self.0.user().to_string()
    }

    /// Demands a scope.
    pub(crate) fn scope(&self, scope: &'static str) -> Result<(), Problem> {
        if self.0.has_scope(scope) { Ok(()) } else { Err(Problem::lacks_scope(scope)) }
    }

    /// The TG of a path, if the token may use it. Others' TGs are as if they were not there.
    pub(crate) fn tg(&self, app: &App, tg: &str) -> Result<TgId, Problem> {
        let no_such = || Problem::new(Code::NotFound, "there is no such TG");
        let found = app.service.settings.tg(tg).ok_or_else(no_such)?;
        if self.0.may_use_tg(tg) { Ok(found.id.clone()) } else { Err(no_such()) }
    }
}

/// Scopes, one for each kind of resource.
pub(crate) mod scope {
    pub(crate) const CALLS: &str = "ript:calls";
    pub(crate) const HANDLERS: &str = "ript:handlers";
    pub(crate) const CERTS: &str = "ript:certs";
    pub(crate) const TRUNKS: &str = "ript:trunks";
    pub(crate) const ALL: [&str; 4] = [CALLS, HANDLERS, CERTS, TRUNKS];
}

/// The queries that resources below a call take.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Queries {
    pub(crate) handler: Option<String>,
    pub(crate) after: Option<u64>,
    pub(crate) ticket: Option<String>,
}

/// The query, or a problem document.
#[derive(Clone, Debug)]
pub(crate) struct Q(pub(crate) Queries);

impl FromRequestParts<App> for Q {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Query(queries) = Query::<Queries>::from_request_parts(parts, app)
            .await
            .map_err(|error| Problem::new(Code::BadRequest, error.body_text()).field("query"))?;
        Ok(Self(queries))
    }
}

/// The variable parts of a path. Bytes that are no text name nothing here.
#[derive(Clone, Debug)]
pub(crate) struct P<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for P<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(found)| Self(found))
            .map_err(|_| Problem::new(Code::NotFound, "there is no such resource"))
    }
}

/// A call of the asking user, found by its path.
#[derive(Clone, Debug)]
pub(crate) struct OwnCall {
    pub(crate) caller: Caller,
    pub(crate) tg: TgId,
    pub(crate) leg: LegId,
    pub(crate) calls: CallHandle,
}

pub(crate) async fn leg_of_path(parts: &mut Parts, app: &App) -> Result<(String, LegId), Problem> {
    let no_such = || Problem::new(Code::NotFound, "there is no such call");
    let Path((tg, leg)) =
        Path::<(String, String)>::from_request_parts(parts, app).await.map_err(|_| no_such())?;
    Ok((tg, leg.parse().map_err(|_| no_such())?))
}

impl FromRequestParts<App> for OwnCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = Caller(principal(parts, app).await?);
        caller.scope(scope::CALLS)?;
        let (tg, leg) = leg_of_path(parts, app).await?;
        let tg = caller.tg(app, &tg)?;
        let calls = app.service.leg(&caller.user(), &tg, leg)?;
        Ok(Self { caller, tg, leg, calls })
    }
}

impl OwnCall {
    /// The device that a query names, if it names one.
    pub(crate) fn handler(&self, app: &App, named: Option<&str>) -> Result<Option<Handler>, Problem> {
        named.map(|named| app.service.acting_handler(&self.caller.user(), Some(&self.tg), named)).transpose()
    }
}
