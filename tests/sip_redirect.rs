//! A telephone network answers a call with whom to call instead (RFC 3261 §21.3).

use ript::adapter::sip::{Beginning, answer};
use ript::client::audio::AudioCodec;
use ript::client::{Call, Handler};
use ript::protocol::event::Outcome;
use ript::protocol::number::Destinations;
use rsipstack::sip::Request;

use crate::client_calls::device;
use crate::common::soon;
use crate::common::telephone::Telephone;
use crate::sip_phone::{Lab, PHONE};
use crate::sip_transfer::headers_of;

const ALICE: &str = "+14085550001";

async fn lab() -> (Lab, Handler) {
    let numbers = |patterns: &[&str]| Destinations::new(patterns).unwrap();
    let lab = Lab::with(|trunk| {
        // The TG lets nobody call +1900.
        (trunk.numbers, trunk.way.destinations) = (numbers(&["+1408*"]), numbers(&["+44*", "+1900*"]));
    })
    .await;
    let alice = device(&lab.world, "alice", ALICE, &AudioCodec::ALL).await;
    (lab, alice)
}

async fn places(alice: &Handler, to: &str) -> Call {
    soon("the placing", alice.place(to, None)).await.unwrap()
}

/// The next call that comes, not answered yet.
async fn next(lab: &mut Lab) -> Beginning {
    soon("a call", lab.calls.recv()).await.unwrap()
}

fn moved(call: &Beginning, contacts: &str) {
    call.responder.respond(answer(&call.request, 302, vec![("Contact", contacts.to_owned())]));
}

fn calls(request: &Request, number: &str) {
    assert!(request.uri.to_string().contains(number), "{number}: {request}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_302_names_is_called_best_first_and_told_who_was_called_before() {
    let (mut lab, alice) = lab().await;
    let placed = places(&alice, PHONE).await;
    let call = next(&mut lab).await;
    calls(&call.request, PHONE);
    assert!(headers_of(&call.request, "Diversion").is_empty());
    moved(
        &call,
        "<sip:+442071830002@elsewhere.example;user=phone>;q=0.2, <tel:+442071830001>;q=0.9, <tel:+19005550001>, \
         <tel:+493012345>, <sip:+14085550007@elsewhere.example>, <mailto:x@y.example>, <tel:+442071838750>",
    );
    let call = next(&mut lab).await;
    calls(&call.request, "+442071830001");
    let to = headers_of(&call.request, "To")[0];
    assert!(to.contains(PHONE), "{to}");
    for name in ["Diversion", "History-Info"] {
        let told = headers_of(&call.request, name);
        assert!(told.len() == 1 && told[0].starts_with(&format!("<sip:{PHONE}@")), "{name}: {told:?}");
    }
    call.responder.respond(answer(&call.request, 486, vec![]));
    let call = next(&mut lab).await;
    calls(&call.request, "+442071830002");
    let agent = ript::adapter::sip::Agent::arrive(&lab.stack, call, lab.profile(PHONE, &[])).unwrap();
    let mut phone =
        Telephone::of(agent, &Telephone::sound(AudioCodec::Pcmu, ript::client::audio::CALLEE).await);
    phone.answer();
    soon("answered", placed.answered()).await.unwrap();
    soon("the end", placed.end()).await.unwrap();
    assert_eq!(phone.ended().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_led_on_at_most_five_times_and_to_nobody_who_may_not_be_called() {
    let (mut lab, alice) = lab().await;
    let placed = places(&alice, PHONE).await;
    for number in 1..=6 {
        let call = next(&mut lab).await;
        // One who was named already, one who is new.
        moved(&call, &format!("<tel:{PHONE}>, <tel:+44207183000{number}>"));
    }
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "failed"));

    // The TG, the trunk, and that it would come back here: none is called, so the next call is the next that comes.
    for contact in ["<tel:+19005550001>", "<tel:+493012345>", "<tel:+14085550001>", "*", ""] {
        let placed = places(&alice, PHONE).await;
        let call = next(&mut lab).await;
        calls(&call.request, PHONE);
        moved(&call, contact);
        assert_eq!(soon("the end", placed.ended()).await.reason, "failed", "{contact}");
    }
    // A 6xx speaks for all who are left.
    let placed = places(&alice, PHONE).await;
    moved(&next(&mut lab).await, "<tel:+442071830001>, <tel:+442071830002>");
    let call = next(&mut lab).await;
    call.responder.respond(answer(&call.request, 603, vec![]));
    let end = soon("the end", placed.ended()).await;
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Declined, "rejected"));
}
