//! What a SIP phone does with media, written without the server's own RTP: it speaks a file and keeps what it hears.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ript::client::audio::{
    AtEnd, AudioCodec, Correlation, Decoder, Encoder, EncoderConfig, FrameSource, correlate, speech,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How a phone is set.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub codec: AudioCodec,
    /// Its payload type, and that of telephone-event.
    pub payload_type: u8,
    pub event: u8,
    /// Parameters of the codec.
    pub fmtp: &'static str,
    /// It is behind an address translator: its description names another port.
    pub hidden: bool,
}

impl Set {
    pub fn new(codec: AudioCodec) -> Self {
        let payload_type = match codec {
            AudioCodec::Pcmu => 0,
            AudioCodec::Pcma => 8,
            AudioCodec::G722 => 9,
            AudioCodec::Opus => 111,
            AudioCodec::AmrWb => 118,
        };
        let fmtp = if codec == AudioCodec::AmrWb { "octet-align=1" } else { "" };
        Self { codec, payload_type, event: 100, fmtp, hidden: false }
    }

    /// The clock of its timestamps.
    fn rate(self) -> u32 {
        match self.codec {
            AudioCodec::Opus => 48_000,
            AudioCodec::AmrWb => 16_000,
            _ => 8_000,
        }
    }
}

/// What was heard so far.
#[derive(Default)]
pub struct Heard {
    pub samples: Vec<i16>,
    pub packets: u64,
    /// Packets of a payload type that it never named.
    pub unknown: u64,
    pub digits: String,
    pub reports: u64,
    event: Option<u32>,
}

enum Say {
    /// There, with these numbers for the codec and for telephone-event.
    To(SocketAddr, u8, u8),
    Digit(u8),
    Raw(Vec<u8>),
}

/// A phone.
pub struct Phone {
    set: Set,
    pub address: SocketAddr,
    pub heard: Arc<Mutex<Heard>>,
    says: mpsc::UnboundedSender<Say>,
    task: JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Speaker {
    set: Set,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    to: Option<SocketAddr>,
    /// What the far side wants its packets to be called.
    numbers: (u8, u8),
    heard: Arc<Mutex<Heard>>,
    source: FrameSource,
    encoder: Encoder,
    decoder: Decoder,
    sequence: u16,
    timestamp: u32,
    /// The key, when it was pressed, and for how long it has been.
    digit: Option<(u8, u32, u32)>,
}

impl Phone {
    pub async fn new(set: Set, file: &'static [u8]) -> Self {
        let (rtp, rtcp) = loop {
            let rtp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = rtp.local_addr().unwrap().port();
            if port.is_multiple_of(2)
                && let Ok(rtcp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)).await
            {
                break (rtp, rtcp);
            }
        };
        let address = rtp.local_addr().unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let (says, said) = mpsc::unbounded_channel();
        let speaker = Speaker {
            set,
            rtp,
            rtcp,
            to: None,
            numbers: (0, 0),
            heard: heard.clone(),
            source: FrameSource::new(speech(file), AtEnd::Loop),
            encoder: Encoder::new(set.codec, EncoderConfig::default()).unwrap(),
            decoder: Decoder::new(set.codec).unwrap(),
            sequence: 0xfff0,
            timestamp: 0xffff_f000,
            digit: None,
        };
        Self { set, address, heard, says, task: tokio::spawn(speaker.run(said)) }
    }

    /// Its description, whichever way it is meant.
    pub fn sdp(&self, direction: &str) -> String {
        let Set { codec, payload_type, event, fmtp, hidden } = self.set;
        let (rate, name) = (self.set.rate(), codec.name());
        let map =
            if codec == AudioCodec::Opus { format!("{name}/{rate}/2") } else { format!("{name}/{rate}") };
        let fmtp = if fmtp.is_empty() { String::new() } else { format!("a=fmtp:{payload_type} {fmtp}\r\n") };
        // Port 9 is nobody's.
        let port = if hidden { 9 } else { self.address.port() };
        format!(
            "v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {payload_type} {event}\r\na=rtpmap:{payload_type} {map}\r\n{fmtp}\
             a=rtpmap:{event} telephone-event/{rate}\r\na=fmtp:{event} 0-15\r\na={direction}\r\n"
        )
    }

    /// Takes a description of the far side: it speaks to there from now on, with its own numbers for what is sent to it.
    pub fn take(&self, sdp: &str) {
        let port = sdp.split("m=audio ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let rate = self.set.rate();
        let number = |map: &str| {
            let named =
                |line: &str| Some(line.strip_prefix("a=rtpmap:")?.strip_suffix(map)?.trim().parse().unwrap());
            sdp.lines().find_map(named).unwrap_or_else(|| panic!("no {map} in {sdp}"))
        };
        let channels = if self.set.codec == AudioCodec::Opus { "/2" } else { "" };
        let codec = number(&format!(" {}/{rate}{channels}", self.set.codec.name()));
        let event = number(&format!(" telephone-event/{rate}"));
        self.says.send(Say::To((Ipv4Addr::LOCALHOST, port).into(), codec, event)).ok().unwrap();
    }

    pub fn press(&self, digit: u8) {
        self.says.send(Say::Digit(digit)).ok().unwrap();
    }

    /// A datagram from its own port.
    pub fn send_raw(&self, datagram: Vec<u8>) {
        self.says.send(Say::Raw(datagram)).ok().unwrap();
    }

    pub fn packets(&self) -> u64 {
        self.heard.lock().unwrap().packets
    }

    /// Waits until so many packets more were heard.
    pub async fn hears(&self, more: u64) {
        let before = self.packets();
        super::soon("media at the phone", async {
            while self.packets() < before + more {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub fn hears_of(&self, file: &'static [u8]) -> Correlation {
        correlate(&speech(file), &self.heard.lock().unwrap().samples, 48_000)
    }
}

impl Speaker {
    async fn run(mut self, mut said: mpsc::UnboundedReceiver<Say>) {
        let (mut rtp, mut rtcp) = ([0; 2_000], [0; 2_000]);
        let mut frames = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                say = said.recv() => match say {
                    Some(Say::To(to, codec, event)) => (self.to, self.numbers) = (Some(to), (codec, event)),
                    Some(Say::Digit(digit)) => self.digit = Some((digit, self.timestamp, 0)),
                    Some(Say::Raw(data)) => self.send(&data).await,
                    None => return,
                },
                Ok((length, _)) = self.rtp.recv_from(&mut rtp) => self.hear(&rtp[..length]),
                Ok((length, _)) = self.rtcp.recv_from(&mut rtcp) => {
                    // RFC 3550 §6.1: a compound packet begins with a report.
                    assert!(length >= 8 && rtcp[0] >> 6 == 2 && matches!(rtcp[1], 200 | 201));
                    self.heard.lock().unwrap().reports += 1;
                }
                _ = frames.tick() => self.speak().await,
            }
        }
    }

    fn hear(&mut self, packet: &[u8]) {
        assert!(packet.len() > 12 && packet[0] == 0x80, "a plain head");
        let (kind, payload) = (packet[1] & 0x7f, &packet[12..]);
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let mut heard = self.heard.lock().unwrap();
        if kind == self.set.event {
            if payload[1] & 0x80 != 0 && heard.event.replace(timestamp) != Some(timestamp) {
                heard.digits.push(char::from(b"0123456789*#ABCD"[usize::from(payload[0])]));
            }
        } else if kind == self.set.payload_type {
            heard.packets += 1;
            let samples = self.decoder.decode(payload);
            heard.samples.extend(samples);
        } else {
            heard.unknown += 1;
        }
    }

    async fn send(&mut self, data: &[u8]) {
        if let Some(to) = self.to {
            let _ = self.rtp.send_to(data, to).await;
        }
    }

    async fn speak(&mut self) {
        if self.to.is_none() {
            return;
        }
        let payload = self.encoder.encode(&self.source.next_frame()).unwrap();
        let step = self.set.rate() / 50;
        self.timestamp = self.timestamp.wrapping_add(step);
        match self.digit.take() {
            Some((digit, began, length)) => {
                let length = length + step;
                let end = length >= 6 * step;
                let [high, low] = (length as u16).to_be_bytes();
                for _ in 0..if end { 3 } else { 1 } {
                    let payload = [digit, u8::from(end) << 7 | 10, high, low];
                    self.packet(self.numbers.1, began, &payload).await;
                }
                self.digit = (!end).then_some((digit, began, length));
            }
            None => self.packet(self.numbers.0, self.timestamp, &payload).await,
        }
    }

    async fn packet(&mut self, kind: u8, timestamp: u32, payload: &[u8]) {
        let mut out = vec![0x80, kind];
        out.extend(self.sequence.to_be_bytes());
        out.extend(timestamp.to_be_bytes());
        out.extend(b"fone");
        out.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&out).await;
    }
}
