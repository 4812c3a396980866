//! A number that is registered at an operator's IMS: what its core says of the registration, and of calls, reaches the users.

use std::sync::Arc;

use ript::adapter::camara;
use ript::adapter::ims::{AccountSettings, Secret, Telephony, TrunkSettings};
use ript::adapter::sip::{Beginning, Hop, Listen, Seat, Stack, TlsFiles, answer};
use ript::client::audio::AudioCodec;
use ript::protocol::event::Outcome;
use ript::protocol::number::Destinations;
use ript::service::rate::Rate;
use rsipstack::sip::headers::{Header, make_header};
use rsipstack::sip::{Method, Request, Response, Transport};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::client_calls::device;
use crate::common::camara::{DEVICE, V03, ask, create, failure, refused};
use crate::common::events::{self, ENDS, EVENTS, subscribe, wanted, webhook};
use crate::common::{World, soon, vouching};
use crate::sip_transfer::headers_of;
use crate::sip_trunk::{free, trunk, world_of};

const ALICE: &str = "+14085550001";
const PHONE: &str = "+442071838750";
const HELP: &str = "sos@emergency.example";
const IDENTITY: &str = "sip:alice@ims.test";

/// An operator's core: it registers whoever asks, and tells who watches.
struct Core {
    stack: Arc<Stack>,
    /// Calls that come.
    calls: mpsc::Receiver<Beginning>,
    /// What was asked last: the registration's Contact, and the subscription to it.
    watched: watch::Receiver<(String, Option<Watched>)>,
    task: JoinHandle<()>,
}

/// A subscription (RFC 6665): its request, and our answer.
#[derive(Clone)]
struct Watched {
    subscribe: Request,
    accepted: Response,
    from: std::net::SocketAddr,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Core {
    async fn start() -> Self {
        let listen = Listen {
            address: "127.0.0.1:0".parse().unwrap(),
            public: None,
            tls: None,
            files: TlsFiles::default(),
            peers: vec!["127.0.0.1".parse().unwrap()],
            rate: Rate::per_second(100),
        };
        let (stack, begins) = Stack::bind(&listen).await.unwrap();
        let (call, calls) = mpsc::channel(16);
        let (watching, watched) = watch::channel((String::new(), None));
        let task = tokio::spawn(serve(stack.clone(), begins, call, watching));
        Self { stack, calls, watched, task }
    }

    fn uri(&self) -> String {
        format!("sip:{}", self.stack.address(Transport::Udp))
    }

    /// Waits until somebody is registered and watches that.
    async fn watched(&mut self) -> (String, Watched) {
        let (contact, watched) =
            soon("a subscription", self.watched.wait_for(|(_, watched)| watched.is_some()))
                .await
                .unwrap()
                .clone();
        (contact, watched.unwrap())
    }

    /// RFC 3680 §5: the registration is over, for this reason.
    async fn ends(&mut self, event: &str) {
        let (contact, Watched { subscribe, accepted, from }) = self.watched().await;
        let body = format!(
            "<?xml version=\"1.0\"?><reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" version=\"1\" state=\"full\">\
             <registration aor=\"{IDENTITY}\" id=\"a\" state=\"terminated\"><contact id=\"c\" state=\"terminated\" \
             event=\"{event}\"><uri>{contact}</uri></contact></registration></reginfo>"
        );
        let of = |headers: &rsipstack::sip::Headers, name: &str| {
            let named = headers.iter().find(|header| header.name().eq_ignore_ascii_case(name));
            named.unwrap().value().to_owned()
        };
        let target = of(&subscribe.headers, "Contact");
        let target = target.split(['<', '>']).nth(1).unwrap();
        let text = format!(
            "NOTIFY {target} SIP/2.0\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 NOTIFY\r\n\
             Contact: <{}>\r\nEvent: reg\r\nSubscription-State: active;expires=600000\r\n\
             Content-Type: application/reginfo+xml\r\nContent-Length: {}\r\n\r\n{body}",
            of(&accepted.headers, "To"),
            of(&subscribe.headers, "From"),
            of(&subscribe.headers, "Call-ID"),
            self.stack.contact("core", Transport::Udp),
            body.len(),
        );
        let mut seat = Seat::new(&self.stack);
        seat.prefer(target, Hop { address: from, transport: Transport::Udp, name: "127.0.0.1".to_owned() });
        seat.request(0, Request::try_from(text.as_str()).unwrap()).await;
        let told = soon("the answer", seat.next()).await;
        let ript::adapter::sip::ua::Input::Response(_, told) = told else { panic!("{told:?}") };
        assert_eq!(told.status_code.code(), 200, "{told}");
    }
}

async fn serve(
    stack: Arc<Stack>,
    mut begins: mpsc::Receiver<Beginning>,
    call: mpsc::Sender<Beginning>,
    watching: watch::Sender<(String, Option<Watched>)>,
) {
    while let Some(begins) = begins.recv().await {
        let own = format!("<{}>", stack.contact("core", Transport::Udp));
        let reply = |headers| answer(&begins.request, 200, headers);
        match begins.request.method {
            Method::Register => {
                let contact = headers_of(&begins.request, "Contact").join(", ");
                let uri = contact.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                let lasts = "600".to_owned();
                begins.responder.respond(reply(vec![("Contact", contact), ("Expires", lasts)]));
                watching.send_modify(|(registered, _)| *registered = uri);
            }
            Method::Subscribe => {
                let lasts = "600000".to_owned();
                let accepted = reply(vec![("Contact", own), ("Expires", lasts)]);
                begins.responder.respond(accepted.clone());
                let (subscribe, from) = (begins.request.clone(), begins.from);
                watching.send_modify(|(_, watched)| *watched = Some(Watched { subscribe, accepted, from }));
            }
            Method::Invite => {
                let _ = call.send(begins).await;
            }
            _ => begins.responder.respond(answer(&begins.request, 405, vec![])),
        }
    }
}

/// A server with this number registered at the core, and perhaps a trunk there.
async fn server(
    core: &Core,
    account: impl FnOnce(&mut AccountSettings),
    trunks: Vec<TrunkSettings>,
    apis: camara::Settings,
) -> (World, Arc<Telephony>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let own = free();
    let mut way = trunk(own, &[core.uri()], "+1*", "+44*").way;
    way.emergency = None;
    let mut settings = AccountSettings {
        number: ALICE.parse().unwrap(),
        identity: IDENTITY.to_owned(),
        user: "alice@ims.test".to_owned(),
        secret: Secret::Password("secret".to_owned()),
        registrar: "sip:ims.test".to_owned(),
        proxy: Some(core.uri()),
        expires: std::time::Duration::from_secs(600),
        ims: true,
        always: false,
        way,
    };
    account(&mut settings);
    let (world, telephony) = world_of(folder.path(), vec![settings], trunks, vouching, apis).await;
    (world, telephony, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_the_network_ends_ends_the_devices_and_its_webhook_is_told() {
    let mut core = Core::start().await;
    let (world, _telephony, _folder) = server(&core, |_| {}, vec![], events::settings()).await;
    let alice = events::user(&world, "alice", ALICE).await;
    let mut hook = webhook().await;
    subscribe(&alice, EVENTS[0], &wanted(ENDS, &hook.url())).await;
    // The device's registration brings up the number's.
    let registration = create(&alice, V03, DEVICE).await;
    core.watched().await;
    let path = format!("{V03}/sessions/{registration}");
    assert_eq!(ask(&alice, "GET", &path, "").await.status, 200);
    core.ends("rejected").await;
    let seen = hook.next().await;
    assert_eq!((seen.kind(), seen.reason()), ("registration-ends", "NETWORK_TERMINATED"));
    assert_eq!(seen.event["data"]["registrationId"], registration);
    assert_eq!(failure(&ask(&alice, "GET", &path, "").await), refused(404, "NOT_FOUND"));
}

/// TS 24.229 §7.6: this call is one for help.
fn for_help(call: &Beginning, service: &str) {
    let body = "<?xml version=\"1.0\"?><ims-3gpp version=\"1\"><alternative-service><type>emergency</type>\
                <reason>call the police</reason></alternative-service></ims-3gpp>";
    let mut response = answer(&call.request, 380, vec![("Contact", format!("<{service}>"))]);
    response.headers.retain(|header| !matches!(header, Header::ContentLength(_)));
    response.headers.push(make_header("Content-Type", "application/3gpp-ims+xml".to_owned()));
    response.headers.push(make_header("Content-Length", body.len().to_string()));
    response.body = body.as_bytes().to_vec();
    call.responder.respond(response);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_the_network_takes_for_one_for_help_goes_where_those_go() {
    let help = || Some(HELP.parse().unwrap());
    // By the account itself, by a trunk beside it, or nowhere.
    for (by_account, by_trunk) in [(true, false), (false, true), (false, false)] {
        let mut core = Core::start().await;
        let mut beside = trunk(free(), &[core.uri()], "+1*", "+999*");
        beside.way.destinations = Destinations::none();
        beside.way.emergency = help().filter(|_| by_trunk);
        let change = |account: &mut AccountSettings| {
            account.always = true;
            account.way.emergency = help().filter(|_| by_account);
        };
        let apis = camara::Settings::default();
        let (world, _telephony, _folder) = server(&core, change, vec![beside], apis).await;
        let alice = device(&world, "alice", ALICE, &AudioCodec::ALL).await;
        let placed = soon("the placing", alice.place(PHONE, None)).await.unwrap();
        let call = soon("a call", core.calls.recv()).await.unwrap();
        assert!(call.request.uri.to_string().contains(PHONE), "{}", call.request);
        for_help(&call, "urn:service:sos.police");
        if by_account || by_trunk {
            let call = soon("a call", core.calls.recv()).await.unwrap();
            assert_eq!(call.request.uri.to_string(), "urn:service:sos.police");
            call.responder.respond(answer(&call.request, 486, vec![]));
            let end = soon("the end", placed.ended()).await;
            assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Declined, "busy"));
        } else {
            let end = soon("the end", placed.ended()).await;
            assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "emergency"));
        }
    }
}
