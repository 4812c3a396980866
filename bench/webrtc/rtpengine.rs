//! rtpengine as a process, and its ng protocol: a cookie and a bencoded dictionary in each UDP datagram.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A daemon of our own; it ends with this.
pub struct Engine {
    child: Child,
    pub control: SocketAddr,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine {
    pub fn start() -> std::io::Result<Self> {
        let control = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let ng = format!("--listen-ng={control}");
        // Table −1: no kernel module, as in containers and on hosts that may not load one.
        let child = Command::new("rtpengine")
            .args(["--foreground", "--log-stderr", "--log-level=3", "--config-file=none", "--table=-1"])
            .args(["--interface=127.0.0.1", "--port-min=20000", "--port-max=30000", ng.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let engine = Self { child, control };
        let control = Control::new(engine.control);
        for _ in 0..100 {
            if control.ask(&[("command", "ping")]).is_some() {
                return Ok(engine);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(std::io::Error::other("it does not answer"))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

/// The ng protocol's other end.
pub struct Control(UdpSocket);

impl Control {
    pub fn new(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time");
        socket.connect(to).expect("a way");
        Self(socket)
    }

    /// The answer, if it comes and is no error. A value that is a list is written `[a,b]`.
    fn ask(&self, dictionary: &[(&str, &str)]) -> Option<Vec<u8>> {
        let text = |s: &str| format!("{}:{s}", s.len());
        let value = |s: &str| match s.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
            Some(list) => format!("l{}e", list.split(',').map(text).collect::<String>()),
            None => text(s),
        };
        let pairs: String = dictionary.iter().map(|(k, v)| text(k) + &value(v)).collect();
        let cookie = uuid::Uuid::new_v4().simple().to_string();
        self.0.send(format!("{cookie} d{pairs}e").as_bytes()).ok()?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let len = self.0.recv(&mut buffer).ok()?;
            if let Some(answer) = buffer[..len].strip_prefix(cookie.as_bytes()) {
                let said = String::from_utf8_lossy(answer);
                assert!(!said.contains("6:result5:error"), "rtpengine refused: {said}");
                return Some(answer.to_vec());
            }
        }
    }

    fn sdp(&self, dictionary: &[(&str, &str)]) -> String {
        let answer = self.ask(dictionary).expect("rtpengine answers");
        let answer = String::from_utf8(answer).expect("text");
        let (_, rest) = answer.split_once("3:sdp").expect("a description");
        let (len, rest) = rest.split_once(':').expect("its length");
        rest[..len.parse().expect("a length")].to_owned()
    }

    /// A description of plain RTP, with the relay's address in it: `command` is offer or answer.
    #[allow(dead_code, reason = "bench/sip, which shares this file, has plain RTP only")]
    pub fn plain(&self, command: &str, call: &str, sdp: &str) -> String {
        let tags = [("from-tag", "a"), ("to-tag", "b")];
        let tags = if command == "offer" { &tags[..1] } else { &tags[..] };
        self.sdp(&[&[("command", command), ("call-id", call), ("sdp", sdp)], tags].concat())
    }

    /// The offer as plain RTP.
    pub fn offer(&self, call: &str, sdp: &str) -> String {
        self.sdp(&[
            ("command", "offer"),
            ("call-id", call),
            ("from-tag", "a"),
            ("sdp", sdp),
            ("ICE", "remove"),
            ("rtcp-mux", "[demux]"),
            ("transport-protocol", "RTP/AVP"),
        ])
    }

    /// The answer as WebRTC.
    pub fn answer(&self, call: &str, sdp: &str) -> String {
        self.sdp(&[
            ("command", "answer"),
            ("call-id", call),
            ("from-tag", "a"),
            ("to-tag", "b"),
            ("sdp", sdp),
            ("ICE", "force"),
            ("DTLS", "passive"),
        ])
    }
}
