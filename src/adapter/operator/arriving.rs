//! Invitations of an operator: each becomes a call here, to whoever is registered for the account's number.

use std::sync::{Arc, Weak};

use serde_json::json;

use super::Record;
use super::account::Account;
use super::api::Told;
use super::book::Ear;
use super::line::{OperatorLine, Side};
use super::media::Media;
use crate::adapter::mapping::Status;
use crate::identity::passport::Attest;
use crate::protocol::number::Number;
use crate::protocol::problem::Code;
use crate::service::arrive::{Arrival, Proof};
use crate::service::lock;

/// Invitations that are being answered at once.
const MAX_ARRIVALS: usize = 128;

/// Somebody calls; once for each session.
pub(super) fn invited(account: &Arc<Account>, told: Told) {
    if told.status.ended() || !lock(&account.book).invite(told.session) {
        return;
    }
    let own = account.clone();
    let mut arrivals = lock(&account.arrivals);
    while arrivals.try_join_next().is_some() {}
    if arrivals.len() >= MAX_ARRIVALS {
        // Its caller hears that nobody answers.
        return tracing::debug!("an operator invites faster than its invitations can be answered");
    }
    arrivals.spawn(async move {
        let session = told.session;
        if let Err(status) = arrive(&own, told).await {
            own.end(session, status).await;
        }
    });
}

/// Rings; or says why not.
async fn arrive(account: &Arc<Account>, told: Told) -> Result<(), Status> {
    let service = account.service.get().and_then(Weak::upgrade).ok_or(Status::NotReachable)?;
    if !account.has_room() {
        return Err(Status::Busy);
    }
    let media = Media::new().map_err(|error| {
        tracing::warn!(%error, "no UDP port for a call's media");
        Status::Failed
    })?;
    let record = Record { operator: account.number.to_string(), session: told.session };
    let arrival = Arrival {
        from: told.originator.as_deref().and_then(caller),
        // RFC 8588 §4: of who calls only the gateway is known.
        proof: Proof::Gateway(Attest::C),
        withheld: false,
        to: account.number.clone(),
        advertisement: Media::possible(),
        record: json!(record),
    };
    let ear = Ear::open(account, told.session);
    let line = OperatorLine::new(account, ear, media, Side::Arriving, told.offer);
    match service.arrive(arrival, Box::new(line)).await {
        Ok(_) => Ok(()),
        Err(problem) => {
            tracing::debug!(code = problem.code.as_str(), "a call from an operator rings nowhere");
            Err(match problem.code {
                Code::TooMany | Code::Overloaded => Status::Busy,
                Code::NoCommonCodec | Code::Internal => Status::Failed,
                _ => Status::NotReachable,
            })
        }
    }
}

/// Whom an originatorAddress names; none: they withhold it, or it is no number or address that can be called back.
fn caller(address: &str) -> Option<Number> {
    let number = match address.strip_prefix("tel:") {
        Some(number) => number,
        None => {
            let address = address.strip_prefix("sip:")?;
            // A global number is the same at every host.
            address
                .split_once('@')
                .map(|(user, _)| user)
                .filter(|user| user.starts_with('+'))
                .unwrap_or(address)
        }
    };
    let number = number.split(';').next().unwrap_or_default().parse::<Number>().ok()?;
    let anonymous = matches!(&number, Number::Address { domain, .. } if domain == "anonymous.invalid");
    (!anonymous).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_whom_the_operator_names() {
        for (address, number) in [
            ("tel:+14085550001", Some("+14085550001")),
            ("sip:+14085550001@example.com", Some("+14085550001")),
            ("sip:alice@example.com", Some("alice@example.com")),
            ("sip:anonymous@anonymous.invalid", None),
            ("tel:", None),
            ("urn:service:sos", None),
            ("", None),
        ] {
            assert_eq!(caller(address).map(|number| number.to_string()).as_deref(), number, "{address}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_panics(text in "(tel:|sip:)?.{0,60}") {
            caller(&text);
        }
    }
}
