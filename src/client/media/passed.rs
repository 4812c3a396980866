//! Media that somebody else reads: sessions for a server that passes chunks on as they are.

use std::sync::Arc;
use std::time::Duration;

use super::MediaLine;
use super::drive::read_uris;
use super::session::{self, NoSession};
use crate::transport::session::{Session, SessionSink};

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session, and the number of the connection that it is on; none once the call has no media. An error is worth another
/// try.
pub(in crate::client) async fn open(
    line: &MediaLine,
    sink: Arc<dyn SessionSink>,
) -> Result<Option<(Session, u64)>, String> {
    let uris = match line.uris.clone() {
        Some(uris) => uris,
        None => match read_uris(line).await.map_err(|error| error.to_string())? {
            Some(uris) => uris,
            None => return Ok(None),
        },
    };
    let connected = line.client.0.link.current(PATIENCE).await.map_err(|error| error.to_string())?;
    match session::connect(line, &connected, &uris.webtransport, sink).await {
        Ok(session) => Ok(Some((session, connected.generation))),
        Err(NoSession::Gone) => Ok(None),
        Err(NoSession::Again(why) | NoSession::Unable(why)) => Err(why),
    }
}
