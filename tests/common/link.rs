//! A lossy link: a UDP relay before the server that loses, delays and reorders, the same way for the same seed.

use std::collections::{HashMap, hash_map::Entry};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What a link does to each packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The share of packets that are lost, 0–1.
    pub loss: f64,
    pub delay: Duration,
    /// Added to the delay, from none to this much: packets overtake each other.
    pub jitter: Duration,
}

/// Packets of one direction.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: AtomicU64,
    pub lost: AtomicU64,
}

/// xorshift64*: good enough to lose packets by.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A seed from `RIPT_SEED` or the clock; printed, so that a failure can be run again.
    pub fn seeded(what: &str) -> Self {
        let given = std::env::var("RIPT_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| ript::clock::now().as_millis());
        println!("{what}: RIPT_SEED={seed}");
        Self::new(seed)
    }

    /// From 0 to below 1.
    pub fn roll(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct State {
    weather: Mutex<Weather>,
    dice: Mutex<Dice>,
    up: Tally,
    down: Tally,
    /// Packets that are being delayed.
    flying: AtomicU64,
    /// Ports of clients that were seen.
    clients: AtomicU64,
}

/// A link to a server; it is down once dropped.
pub struct Link {
    /// Where clients connect to.
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Link {
    pub async fn to(server: SocketAddr, weather: Weather, dice: Dice) -> Self {
        let front = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await.expect("a UDP port"));
        let address = front.local_addr().expect("an address");
        let (up, down) = (Tally::default(), Tally::default());
        let (weather, dice) = (Mutex::new(weather), Mutex::new(dice));
        let (flying, clients) = (AtomicU64::new(0), AtomicU64::new(0));
        let state = Arc::new(State { weather, dice, up, down, flying, clients });
        let mut tasks = JoinSet::new();
        tasks.spawn(run(front, server, state.clone()));
        Self { address, state, _tasks: tasks }
    }

    /// Changes what happens to packets from now on.
    pub fn set(&self, weather: Weather) {
        *self.state.weather.lock().unwrap() = weather;
    }

    /// Waits until no packet is under way any more; those that were are at their end's socket.
    pub async fn drained(&self) {
        while self.state.flying.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many connections came through: each client has a port of its own for each.
    pub fn connections(&self) -> u64 {
        self.state.clients.load(Ordering::Relaxed)
    }

    /// Towards the server.
    pub fn up(&self) -> &Tally {
        &self.state.up
    }

    /// From the server.
    pub fn down(&self) -> &Tally {
        &self.state.down
    }
}

impl State {
    /// How long a packet takes; none: it is lost.
    fn fate(&self, tally: &Tally) -> Option<Duration> {
        let weather = *self.weather.lock().unwrap();
        let mut dice = self.dice.lock().unwrap();
        if dice.roll() < weather.loss {
            tally.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        tally.passed.fetch_add(1, Ordering::Relaxed);
        Some(weather.delay + weather.jitter.mul_f64(dice.roll()))
    }
}

async fn pass(state: &Arc<State>, tally: &Tally, packet: &[u8], through: &Arc<UdpSocket>, to: SocketAddr) {
    match state.fate(tally) {
        None => {}
        Some(Duration::ZERO) => {
            let _ = through.send_to(packet, to).await;
        }
        Some(delay) => {
            let (packet, through, state) = (packet.to_vec(), through.clone(), state.clone());
            state.flying.fetch_add(1, Ordering::AcqRel);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = through.send_to(&packet, to).await;
                state.flying.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }
}

/// Each client gets a socket of its own towards the server.
async fn run(front: Arc<UdpSocket>, server: SocketAddr, state: Arc<State>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut backs = JoinSet::new();
    let mut packet = vec![0; 65_536];
    while let Ok((len, client)) = front.recv_from(&mut packet).await {
        if let Entry::Vacant(place) = clients.entry(client) {
            let back = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await.expect("a UDP port"));
            place.insert(back.clone());
            state.clients.fetch_add(1, Ordering::Relaxed);
            let (front, state) = (front.clone(), state.clone());
            backs.spawn(async move {
                let mut packet = vec![0; 65_536];
                while let Ok((len, _)) = back.recv_from(&mut packet).await {
                    pass(&state, &state.down, &packet[..len], &front, client).await;
                }
            });
        }
        pass(&state, &state.up, &packet[..len], &clients[&client], server).await;
    }
}
