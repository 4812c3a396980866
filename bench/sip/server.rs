//! The server with a trunk, as the tests start it.

use std::net::SocketAddr;

use ript::adapter::ims::{Settings, Telephony, TrunkSettings, WaySettings};
use ript::adapter::sip::TlsFiles;
use ript::adapter::sip::rtp::{RtpSettings, Srtp};
use ript::identity::passport::Attest;
use ript::media::audio::AudioCodec;
use ript::protocol::number::Destinations;
use ript::service::gateways::Gateways;
use ript::service::rate::Rate;

use crate::Place;
use crate::common::{World, vouching};
use crate::process::serve;

pub fn run() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("where calls go");
    let far = serde_json::from_str(&line).expect("where calls go");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let listen = "127.0.0.1".parse().expect("an address");
        let codecs = vec![AudioCodec::Opus];
        let rtp = RtpSettings { listen, public: None, range: None, most: 2_000, srtp: Srtp::Off, codecs };
        let settings =
            Settings { trunks: vec![trunk(far, &rtp)], rtp, dns: Vec::new(), accounts: Vec::new() };
        let telephony = Telephony::bind(&settings, folder.path()).await.expect("a trunk");
        let gateways = Gateways::new(vec![telephony.clone()]);
        let world = World::with(|settings| {
            vouching(settings);
            settings.gateway = Some(gateways);
        })
        .await;
        telephony.start(&world.service);
        let (address, ca) = (world.address, world.ca.clone());
        let (issuer, passports) = (world.issuer.to_pem(), world.passports.to_pem());
        serve(&Place::Ript { address, ca, issuer, passports }).await;
    });
}

fn trunk(far: SocketAddr, rtp: &RtpSettings) -> TrunkSettings {
    let numbers = |pattern| Destinations::new([pattern]).expect("a pattern");
    TrunkSettings {
        name: "trunk".to_owned(),
        servers: vec![format!("sip:{far}")],
        numbers: numbers("+44*"),
        attest: Attest::B,
        trusted: true,
        x5u: None,
        ping: None,
        login: None,
        way: WaySettings {
            listen: ([127, 0, 0, 1], 0).into(),
            tls_listen: None,
            public: None,
            files: TlsFiles::default(),
            peers: vec!["127.0.0.1".parse().expect("an address")],
            peer_names: vec![],
            rate: Rate::per_second(10_000),
            keepalive: std::time::Duration::from_secs(120),
            destinations: numbers("+1*"),
            codecs: rtp.codecs.clone(),
            srtp: rtp.srtp,
            srtp_in_clear: true,
            session_expires: None,
            emergency: None,
            access: None,
        },
    }
}
