//! Calls set up and ended: by RIPT clients through the trunk, or by SIP phones through Kamailio; and the CPU time of what is
//! between. The ladder of each: INVITE, 180, 200, ACK, BYE, 200.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;
use ript::adapter::sip::ua::{Command, Event};
use ript::adapter::sip::{Agent, Hop, Stack};
use rsipstack::sip::Transport;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::caller::Callers;
use crate::common::soon;
use crate::far::{Far, description, end, number, profile};
use crate::process::cpu_ns;
use crate::{Job, Place};

/// What one run showed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// CPU time of what is between, all processes and threads, user and kernel.
    pub cpu_ns: u64,
    pub calls: u64,
    pub took_ns: u64,
}

impl Figure {
    pub fn micros(&self) -> f64 {
        self.cpu_ns as f64 / 1000.0 / self.calls.max(1) as f64
    }
}

enum Near {
    Ript(Callers),
    Sip(Arc<Stack>, SocketAddr),
}

pub async fn run(job: &Job) -> Figure {
    let far = Far::start(job.far.port(), vec![9; 10_000]).await;
    let near = match job.place {
        Place::Ript { .. } => {
            Near::Ript(Callers::connect(&job.place, job.connections.min(job.at_once)).await)
        }
        Place::Kamailio(relay) => Near::Sip(end(0).await.0, relay),
        Place::Rtpengine(_) => unreachable!("it has no signalling"),
    };
    // What is made at the first call only is no call's.
    near.calls(job.at_once, job.at_once).await;
    soon("the phones", far.have_ended(job.at_once.into())).await;
    let (cpu, began) = (spent(job.pid), ript::clock::instant());
    near.calls(job.calls, job.at_once).await;
    let all = u64::from(job.at_once + job.calls);
    soon("the phones", far.have_ended(all)).await;
    let took_ns = began.elapsed().as_nanos() as u64;
    Figure { cpu_ns: spent(job.pid) - cpu, calls: job.calls.into(), took_ns }
}

impl Near {
    /// Sets calls up and ends them, so many at once.
    async fn calls(&self, calls: u32, at_once: u32) {
        let next = AtomicU32::new(0);
        let one_by_one = || async {
            loop {
                let call = next.fetch_add(1, Ordering::Relaxed);
                if call >= calls {
                    return;
                }
                match self {
                    Self::Ript(callers) => by_trunk(callers, call).await,
                    Self::Sip(stack, relay) => by_relay(stack, *relay, call).await,
                }
            }
        };
        join_all((0..at_once).map(|_| one_by_one())).await;
    }
}

async fn by_trunk(callers: &Callers, call: u32) {
    let (user, handler) = callers.of(call);
    let placed = user.call(handler, &number(call)).await;
    let uri = placed["uri"].as_str().expect("a URI");
    let mut events = user.events(uri, handler, None).await;
    events.until("answered").await;
    let ended = user.event(uri, handler, json!({"event": "end"})).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    events.until("ended").await;
}

async fn by_relay(stack: &Arc<Stack>, relay: SocketAddr, call: u32) {
    let target = format!("sip:{}@{relay}", number(call));
    let hop = Hop { address: relay, transport: Transport::Udp, name: relay.ip().to_string() };
    let profile = profile(stack, target.clone());
    let mut agent = Agent::place(stack, profile, Some(description(9)), (&target, hop), None);
    let mut answered = false;
    loop {
        match soon("an event", agent.events.recv()).await.expect("the end is told") {
            Event::Answered => {
                answered = true;
                agent.say(Command::End { reason: None });
            }
            Event::Ended(ending) => {
                assert!(answered, "{ending:?}");
                // It waits for late answers by itself.
                return agent.end(Command::End { reason: None });
            }
            _ => {}
        }
    }
}

/// CPU time of a process and of its workers.
fn spent(pid: u32) -> u64 {
    cpu_ns(pid) + children(pid).into_iter().map(cpu_ns).sum::<u64>()
}

fn children(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("processes").flatten();
    let own = all.filter_map(|entry| {
        let child = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // proc_pid_stat: behind the name stand the state and the parent.
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok();
        (parent == Some(pid)).then_some(child)
    });
    own.collect()
}
