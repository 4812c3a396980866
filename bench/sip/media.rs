//! Calls with media both ways, between RIPT clients and SIP phones, or between plain RTP devices at rtpengine: what becomes of
//! each packet, and the relay's CPU time meanwhile. One thread, but for QUIC's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::caller::Callers;
use crate::common::soon;
use crate::drops::overflown;
use crate::ends::{Go, Ript, Rtp, Tally};
use crate::far::{Far, description, number, rtp_address};
use crate::process::cpu_ns;
use crate::rtpengine::Control;
use crate::{Job, Place};

/// Before the window, and after it.
const AROUND: Duration = Duration::from_secs(2);
/// How long packets may be under way.
const DRAIN: Duration = Duration::from_secs(5);

/// What one run showed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// CPU time of the relay in the window, all threads, user and kernel.
    pub cpu_ns: u64,
    /// Packets that came out of it meanwhile.
    pub relayed: u64,
    /// Packets sent since the beginning, and what became of them in the end.
    pub sent: u64,
    pub received: u64,
    pub doubled: u64,
    pub misrouted: u64,
    /// Of those lost, what was for phones.
    pub lost_for_phones: u64,
    /// What was too old before the load's QUIC connections had room.
    pub late: u64,
    /// Datagrams that the relay's sockets had no room for, and the load's.
    pub relay_full: u64,
    pub load_full: u64,
}

impl Figure {
    pub fn micros(&self) -> f64 {
        self.cpu_ns as f64 / 1000.0 / self.relayed.max(1) as f64
    }

    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }

    pub fn is_whole(&self) -> bool {
        (self.lost(), self.doubled, self.misrouted) == (0, 0, 0)
    }
}

pub struct Load {
    /// A call's are beside each other: first that of the RIPT client, or the device in its place.
    tallies: Vec<Arc<Tally>>,
    tasks: JoinSet<()>,
    start: watch::Sender<Option<Instant>>,
    go: Go,
}

impl Load {
    pub fn new(job: &Job) -> Self {
        let total = (job.seconds + 2 * AROUND.as_secs()) as u32 * 50;
        let ends = 2 * job.calls;
        // The ends are evenly spread over the 20 ms.
        let phase = |n: u32| Duration::from_millis(20) * n / ends;
        let tallies = (0..ends).map(|n| Tally::new(n / 2, (n % 2) as u8, total, phase(n))).collect();
        let (start, go) = watch::channel(None);
        Self { tallies, tasks: JoinSet::new(), start, go }
    }

    pub async fn run(mut self, job: &Job) -> Figure {
        let mut kept = None;
        match &job.place {
            Place::Ript { .. } => kept = Some(self.ript(job).await),
            Place::Rtpengine(control) => self.rtpengine(job, *control).await,
            Place::Kamailio(_) => unreachable!("it has no media"),
        }
        let begin = ript::clock::instant() + Duration::from_millis(500);
        self.start.send_replace(Some(begin));
        tokio::time::sleep_until((begin + AROUND).into()).await;
        let (cpu, came) = (cpu_ns(job.pid), self.sum(|t| &t.received));
        tokio::time::sleep(Duration::from_secs(job.seconds)).await;
        let (cpu_ns, relayed) = (cpu_ns(job.pid) - cpu, self.sum(|t| &t.received) - came);
        let of_each = (job.seconds + 2 * AROUND.as_secs()) * 50;
        let total = self.tallies.len() as u64 * of_each;
        let rest = async {
            while self.sum(|t| &t.sent) < total || self.sum(|t| &t.received) < total {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // What has not come by then is lost.
        let _ = tokio::time::timeout(AROUND + DRAIN, rest).await;
        let by = |side: usize, of: fn(&Tally) -> &AtomicU64| -> u64 {
            self.tallies.iter().skip(side).step_by(2).map(|tally| of(tally).load(Ordering::Relaxed)).sum()
        };
        Figure {
            cpu_ns,
            relayed,
            sent: self.sum(|t| &t.sent),
            received: self.sum(|t| &t.received),
            doubled: self.sum(|t| &t.doubled),
            misrouted: self.sum(|t| &t.misrouted),
            lost_for_phones: by(0, |t| &t.sent).saturating_sub(by(1, |t| &t.received)),
            late: kept.as_ref().map_or(0, |(_, callers)| callers.late()),
            relay_full: overflown(job.pid),
            load_full: overflown(std::process::id()),
        }
    }

    fn sum(&self, of: fn(&Tally) -> &AtomicU64) -> u64 {
        self.tallies.iter().map(|tally| of(tally).load(Ordering::Relaxed)).sum()
    }

    fn ends(&self, call: u32) -> [Arc<Tally>; 2] {
        [0, 1].map(|side| self.tallies[2 * call as usize + side].clone())
    }

    /// RIPT clients' calls to phones behind the trunk.
    async fn ript(&mut self, job: &Job) -> (Far, Callers) {
        let mut phones = Vec::new();
        for call in 0..job.calls {
            phones.push(Rtp::new(self.ends(call)[1].clone()).await);
        }
        let port = |rtp: &Rtp| rtp.socket.local_addr().expect("an address").port();
        let far = Far::start(job.far.port(), phones.iter().map(port).collect()).await;
        let callers = Callers::connect(&job.place, job.connections.min(job.calls)).await;
        for (call, phone) in (0..).zip(phones) {
            let (user, handler) = callers.of(call);
            let placed = user.call(handler, &number(call)).await;
            let uri = placed["uri"].as_str().expect("a URI");
            let mut events = user.events(uri, handler, None).await;
            events.until("answered").await;
            self.tasks.spawn(async move { while events.next_ever().await.is_some() {} });
            phone.socket.connect(far.other(call)).await.expect("a way");
            let end = Ript::new(self.ends(call)[0].clone());
            let ticket = user.ticket(uri, handler).await.parse().expect("a URI");
            let opening = user.client.open_session(ticket, HeaderMap::new(), end.clone());
            let session = soon("a session", opening).await.expect("a session");
            self.tasks.spawn(end.run(session, self.go.clone()));
            self.tasks.spawn(phone.run(self.go.clone()));
        }
        (far, callers)
    }

    /// Calls between plain RTP devices.
    async fn rtpengine(&mut self, job: &Job, control: SocketAddr) {
        let control = Control::new(control);
        for call in 0..job.calls {
            let name = format!("call{call}");
            let [one, other] = self.ends(call);
            let ends = [Rtp::new(one).await, Rtp::new(other).await];
            for (command, own, other) in [("offer", &ends[0], &ends[1]), ("answer", &ends[1], &ends[0])] {
                let own = own.socket.local_addr().expect("an address").port();
                let there = rtp_address(&control.plain(command, &name, &description(own)));
                other.socket.connect(there).await.expect("a way");
            }
            for end in ends {
                self.tasks.spawn(end.run(self.go.clone()));
            }
        }
    }
}
