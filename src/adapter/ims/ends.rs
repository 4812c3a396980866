//! One SIP end for each address that is listened at: ways that share an operator's one port share it, and what comes in is
//! told apart by who sends it and whom it calls.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::settings::{Settings, WaySettings};
use super::way::{Kind, Way};
use crate::adapter::sip::{Beginning, Habits, Listen, Stack};
use crate::service::rate::Rate;

/// An end, its ways, and what begins something there.
#[derive(Debug)]
pub(super) struct End {
    pub(super) ways: Vec<Arc<Way>>,
    pub(super) beginnings: mpsc::Receiver<Beginning>,
    stack: Arc<Stack>,
    listen: SocketAddr,
}

/// All ends that are bound.
#[derive(Debug)]
pub(super) struct Ends<'a> {
    settings: &'a Settings,
    ends: Vec<End>,
}

impl<'a> Ends<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, ends: Vec::new() }
    }

    /// A way at its end, which is bound if it isn't yet.
    pub(super) async fn way(
        &mut self,
        name: &str,
        settings: &WaySettings,
        kind: Kind,
    ) -> io::Result<Arc<Way>> {
        // Port 0 is a new one each time.
        let known = |end: &End| settings.listen.port() != 0 && end.listen == settings.listen;
        let at = match self.ends.iter().position(known) {
            Some(at) => at,
            None => {
                let (stack, beginnings) = self.bind(settings).await?;
                self.ends.push(End { ways: Vec::new(), beginnings, stack, listen: settings.listen });
                self.ends.len() - 1
            }
        };
        let end = &mut self.ends[at];
        let way = Arc::new(Way::new(name, end.stack.clone(), settings, &self.settings.rtp, kind)?);
        end.ways.push(way.clone());
        Ok(way)
    }

    pub(super) fn into_all(self) -> Vec<End> {
        self.ends
    }

    /// For all that are to share it: who is a peer of one of them is heard.
    async fn bind(&self, own: &WaySettings) -> io::Result<(Arc<Stack>, mpsc::Receiver<Beginning>)> {
        let mut all: Vec<_> = self.settings.ways().filter(|way| way.listen == own.listen).collect();
        if own.listen.port() == 0 {
            all = vec![own];
        }
        let most = |pick: fn(&Rate) -> u32| all.iter().map(|way| pick(&way.rate)).max().unwrap_or(0);
        let listen = Listen {
            address: own.listen,
            public: own.public,
            tls: own.tls_listen,
            files: own.files.clone(),
            peers: all.iter().flat_map(|way| way.peers.clone()).collect(),
            rate: Rate { per_second: most(|rate| rate.per_second), burst: most(|rate| rate.burst) },
        };
        let habits = Habits {
            dns: self.settings.dns.clone(),
            keepalive: all.iter().map(|way| way.keepalive).min(),
            keys_in_clear: all.iter().any(|way| way.srtp_in_clear),
        };
        Stack::bind_with(&listen, habits).await
    }
}

/// Whose a request is: of the ways that know who sent it, that of the number called; none: nobody knows its sender.
pub(super) fn chosen<'a>(ways: &'a [Arc<Way>], beginning: &Beginning) -> Option<&'a Arc<Way>> {
    let known: Vec<_> = ways.iter().filter(|way| way.knows(beginning)).collect();
    // A certificate that names nobody's server is one of those whose peers are all that their CA knows.
    let known = match known.is_empty() {
        true => ways.iter().filter(|way| way.takes_any(beginning)).collect(),
        false => known,
    };
    known.iter().find(|way| way.is_called(&beginning.request)).or(known.first()).copied()
}
