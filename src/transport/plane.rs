//! The threads that move packets. A server's QUIC endpoints, connections and readers of datagrams run on few threads of
//! their own, on small machines on one: what a chunk touches on its way from leg to leg then stays in one processor's
//! cache, and no two threads wait for one connection's lock. Requests run elsewhere, so that none of them holds up media.

use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, TokioRuntime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Cores for each thread of the plane; the rest is for requests, the store and the kernel's part of the work.
const CORES_PER_THREAD: usize = 4;

/// One for the whole process, for ever: connections end, their threads don't.
fn handle() -> &'static Handle {
    static PLANE: OnceLock<(Handle, Option<Runtime>)> = OnceLock::new();
    let (handle, _) = PLANE.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.div_ceil(CORES_PER_THREAD);
        let plane = if threads == 1 { single() } else { several(threads) };
        plane.unwrap_or_else(|error| {
            tracing::warn!(%error, "no threads of their own for packets; they run with the requests");
            (Handle::current(), None)
        })
    });
    handle
}

fn single() -> std::io::Result<(Handle, Option<Runtime>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("ript-quic".into()).spawn(run)?;
    Ok((handle, None))
}

fn several(threads: usize) -> std::io::Result<(Handle, Option<Runtime>)> {
    let runtime =
        Builder::new_multi_thread().worker_threads(threads).thread_name("ript-quic").enable_all().build()?;
    Ok((runtime.handle().clone(), Some(runtime)))
}

/// Runs a task on the plane.
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    handle().spawn(task)
}

/// quinn's way onto the plane.
#[derive(Debug)]
pub(super) struct Plane;

impl quinn::Runtime for Plane {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _here = handle().enter();
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        spawn(task);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        let _here = handle().enter();
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
