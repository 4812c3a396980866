//! Kamailio as a process: a stateful relay that records its route.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A daemon of our own; it ends with this.
pub struct Relay {
    child: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Its workers end with it only if it is asked.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Relay {
    /// All calls go on to `far`.
    pub fn start(far: SocketAddr) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let config = include_str!("kamailio.cfg").replace("@OWN@", &address.to_string());
        let path = folder.path().join("kamailio.cfg");
        std::fs::write(&path, config.replace("@FAR@", &far.to_string()))?;
        let command = || {
            let mut command = Command::new("kamailio");
            command.arg("-f").arg(&path).arg("-Y").arg(folder.path()).args(["-m", "128", "-M", "16"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        if !command().arg("-c").status()?.success() {
            return Err(io::Error::other("kamailio -c finds a fault in bench/sip/kamailio.cfg"));
        }
        let child = command().args(["-DD", "-E"]).spawn()?;
        let relay = Self { child, address, _folder: folder };
        for _ in 0..100 {
            if answers(address)? {
                return Ok(relay);
            }
        }
        Err(io::Error::other("it does not answer"))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

/// Whether somebody says anything at all to OPTIONS within a moment.
fn answers(there: SocketAddr) -> io::Result<bool> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.connect(there)?;
    let own = socket.local_addr()?;
    let options = format!(
        "OPTIONS sip:{there} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:bench@{own}>;tag=1\r\nTo: <sip:{there}>\r\nCall-ID: {own}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let mut buffer = [0; 2_000];
    let answered = socket.send(options.as_bytes()).and_then(|_| socket.recv(&mut buffer)).is_ok();
    if !answered {
        // A port that nobody has yet refuses at once.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(answered)
}
