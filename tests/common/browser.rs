//! What a browser does, done by str0m: a full ICE agent that speaks opus or G.711 from a file and keeps what it hears.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ript::client::audio::{
    AtEnd, AudioCodec, Correlation, Decoder, Encoder, EncoderConfig, FrameSource, correlate, speech,
};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::format::Codec;
use str0m::media::{Direction, Frequency, MediaKind, MediaTime, Mid, TelephoneEvent};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const FRAME: Duration = Duration::from_millis(20);

/// What was heard so far.
#[derive(Default)]
pub struct Heard {
    pub samples: Vec<i16>,
    pub packets: u64,
    pub digits: String,
    event: Option<u64>,
    pub video: Vec<Vec<u8>>,
    pub connected: bool,
    /// The newest SRTP packet that went out.
    pub sent: Vec<u8>,
}

enum Say {
    Offer { video: bool, direction: Direction, answer: oneshot::Sender<String> },
    Answer(String, oneshot::Sender<()>),
    Answered(String, oneshot::Sender<String>),
    Digit(u8),
    Video(Vec<u8>),
    Raw(SocketAddr, Vec<u8>),
}

/// A browser's peer connection.
pub struct Browser {
    says: mpsc::UnboundedSender<Say>,
    pub heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    source: FrameSource,
    codec: AudioCodec,
    encoder: Encoder,
    decoder: Decoder,
    audio: Option<Mid>,
    video: Option<Mid>,
    pending: Option<SdpPendingOffer>,
    time: u64,
    digit: Option<(u8, u32)>,
}

fn now() -> Instant {
    ript::clock::instant()
}

impl Browser {
    /// With these codecs, the preferred one first, that says what a file holds.
    pub async fn new(codecs: &[AudioCodec], file: &'static [u8]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut config = RtcConfig::new().clear_codecs().set_reordering_size_audio(0);
        for codec in codecs {
            config = match codec {
                AudioCodec::Opus => config.enable_opus(true, false),
                AudioCodec::Pcmu => config.enable_pcmu(true, false),
                AudioCodec::Pcma => config.enable_pcma(true, false),
                other => panic!("browsers don't speak {other:?}"),
            };
        }
        let rate =
            if codecs[0] == AudioCodec::Opus { Frequency::FORTY_EIGHT_KHZ } else { Frequency::EIGHT_KHZ };
        config = config.enable_vp8(true);
        config.codec_config().add_config(101.into(), None, Codec::Tele, rate, None, Default::default());
        let mut rtc = config.build(now());
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        let heard = Arc::<Mutex<Heard>>::default();
        let (says, said) = mpsc::unbounded_channel();
        let peer = Peer {
            rtc,
            socket,
            address,
            heard: heard.clone(),
            source: FrameSource::new(speech(file), AtEnd::Loop),
            codec: codecs[0],
            encoder: Encoder::new(codecs[0], EncoderConfig::default()).unwrap(),
            decoder: Decoder::new(codecs[0]).unwrap(),
            audio: None,
            video: None,
            pending: None,
            time: 0,
            digit: None,
        };
        Self { says, heard, task: tokio::spawn(peer.run(said)) }
    }

    async fn ask<T>(&self, say: impl FnOnce(oneshot::Sender<T>) -> Say) -> T {
        let (answer, answered) = oneshot::channel();
        self.says.send(say(answer)).ok().unwrap();
        answered.await.unwrap()
    }

    pub async fn offer(&self) -> String {
        self.offer_as(false, Direction::SendRecv).await
    }

    /// Offers audio in that direction, and video.
    pub async fn offer_as(&self, video: bool, direction: Direction) -> String {
        self.ask(|answer| Say::Offer { video, direction, answer }).await
    }

    /// Takes the server's answer.
    pub async fn take_answer(&self, sdp: &str) {
        self.ask(|done| Say::Answer(sdp.to_owned(), done)).await;
    }

    /// Answers the server's offer.
    pub async fn answer(&self, offer: &str) -> String {
        self.ask(|answer| Say::Answered(offer.to_owned(), answer)).await
    }

    pub fn press(&self, digit: u8) {
        self.says.send(Say::Digit(digit)).ok().unwrap();
    }

    pub fn show(&self, frame: Vec<u8>) {
        self.says.send(Say::Video(frame)).ok().unwrap();
    }

    /// A datagram from the browser's own address.
    pub fn send_raw(&self, to: SocketAddr, datagram: Vec<u8>) {
        self.says.send(Say::Raw(to, datagram)).ok().unwrap();
    }

    pub fn packets(&self) -> u64 {
        self.heard.lock().unwrap().packets
    }

    /// Waits until so many packets more were heard.
    pub async fn hears(&self, more: u64) {
        let before = self.packets();
        super::soon("media at the browser", async {
            while self.packets() < before + more {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Whether what a file holds was heard.
    pub fn hears_of(&self, file: &'static [u8]) -> Correlation {
        correlate(&speech(file), &self.heard.lock().unwrap().samples, 48_000)
    }
}

impl Peer {
    async fn run(mut self, mut said: mpsc::UnboundedReceiver<Say>) {
        let mut buffer = vec![0; 2_000];
        let mut frames = tokio::time::interval(FRAME);
        loop {
            let due = self.drain().await;
            tokio::select! {
                say = said.recv() => match say {
                    Some(say) => self.say(say).await,
                    None => return,
                },
                received = self.socket.recv_from(&mut buffer) => {
                    let Ok((len, source)) = received else { continue };
                    let Ok(contents) = (&buffer[..len]).try_into() else { continue };
                    let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
                    let _ = self.rtc.handle_input(Input::Receive(now(), receive));
                }
                _ = frames.tick() => self.speak(),
                () = tokio::time::sleep_until(due.into()) => {
                    let _ = self.rtc.handle_input(Input::Timeout(now()));
                }
            }
        }
    }

    async fn drain(&mut self) -> Instant {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => return at,
                Output::Transmit(transmit) => {
                    if matches!(*transmit.contents, [128..=191, kind, ..] if !(192..=223).contains(&kind)) {
                        self.heard.lock().unwrap().sent = transmit.contents.to_vec();
                    }
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination).await;
                }
                Output::Event(event) => self.happened(event),
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Connected => self.heard.lock().unwrap().connected = true,
            Event::MediaAdded(added) => match added.kind {
                MediaKind::Audio => self.audio = Some(added.mid),
                MediaKind::Video => self.video = Some(added.mid),
            },
            Event::MediaData(data) if Some(data.mid) == self.video => {
                self.heard.lock().unwrap().video.push(data.data.to_vec());
            }
            Event::MediaData(data) => {
                let mut heard = self.heard.lock().unwrap();
                if let str0m::format::CodecExtra::Tele(event) = &data.codec_extra {
                    // RFC 4733 §2.5.1.4: the end comes three times.
                    if event.end && heard.event != Some(data.time.numer()) {
                        heard.event = Some(data.time.numer());
                        heard.digits.push(char::from(b"0123456789*#ABCD"[usize::from(event.event)]));
                    }
                    return;
                }
                heard.packets += 1;
                let codec = match data.params.spec().codec {
                    Codec::Opus => AudioCodec::Opus,
                    Codec::PCMU => AudioCodec::Pcmu,
                    _ => AudioCodec::Pcma,
                };
                self.decoder.switch(codec).unwrap();
                let samples = self.decoder.decode(&data.data);
                heard.samples.extend(samples);
            }
            _ => {}
        }
    }

    fn speak(&mut self) {
        let Some(mid) = self.audio.filter(|_| self.rtc.is_connected()) else { return };
        let frame = self.source.next_frame();
        let payload = self.encoder.encode(&frame).unwrap();
        self.time += 1;
        let wanted = match self.codec {
            AudioCodec::Opus => Codec::Opus,
            AudioCodec::Pcmu => Codec::PCMU,
            _ => Codec::PCMA,
        };
        let Some(writer) = self.rtc.writer(mid) else { return };
        let Some((pt, rate)) = writer
            .payload_params()
            .find(|params| params.spec().codec == wanted)
            .map(|params| (params.pt(), params.spec().clock_rate))
        else {
            return;
        };
        let time = MediaTime::new(self.time * u64::from(rate.get()) / 50, rate);
        let writer = writer.audio_level(-30, true);
        if let Some((event, ms)) = self.digit {
            let tele = TelephoneEvent {
                event,
                end: ms >= 100,
                volume: 10,
                duration: Duration::from_millis(u64::from(ms)),
            };
            self.digit = (ms < 100).then_some((event, ms + 20));
            let _ = writer.telephone_event(tele).write(pt, now(), time, payload.to_vec());
            return;
        }
        let _ = writer.write(pt, now(), time, payload.to_vec());
    }

    async fn say(&mut self, say: Say) {
        match say {
            Say::Offer { video, direction, answer } => {
                let mut changes = self.rtc.sdp_api();
                match self.audio {
                    None => {
                        self.audio = Some(changes.add_media(MediaKind::Audio, direction, None, None, None))
                    }
                    Some(mid) => changes.set_direction(mid, direction),
                }
                if video && self.video.is_none() {
                    let direction = Direction::SendRecv;
                    self.video = Some(changes.add_media(MediaKind::Video, direction, None, None, None));
                }
                let (offer, pending) = changes.apply().unwrap();
                self.pending = Some(pending);
                let _ = answer.send(offer.to_sdp_string());
            }
            Say::Answer(sdp, done) => {
                let answer = SdpAnswer::from_sdp_string(&sdp).unwrap();
                self.rtc.sdp_api().accept_answer(self.pending.take().unwrap(), answer).unwrap();
                let _ = done.send(());
            }
            Say::Answered(sdp, answer) => {
                let offer = SdpOffer::from_sdp_string(&sdp).unwrap();
                let own = self.rtc.sdp_api().accept_offer(offer).unwrap();
                let _ = answer.send(own.to_sdp_string());
            }
            Say::Digit(event) => self.digit = Some((event, 20)),
            Say::Video(frame) => {
                let Some(mid) = self.video else { return };
                let Some(writer) = self.rtc.writer(mid) else { return };
                let Some(pt) = writer.payload_params().next().map(|params| params.pt()) else { return };
                let _ = writer.write(pt, now(), MediaTime::from_90khz(self.time * 1_800), frame);
            }
            Say::Raw(to, datagram) => {
                let _ = self.socket.send_to(&datagram, to).await;
            }
        }
    }
}
