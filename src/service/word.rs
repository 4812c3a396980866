//! What the target of a transfer is told of who is handed on.

use super::Service;
use super::gateway::Target;
use crate::call::{Caller, Word};
use crate::clock;
use crate::identity::canonical::Identity;
use crate::identity::enrol::Enroller;
use crate::identity::passport::{Attest, Passport, Ppt, Verification};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::time::Timestamp;

impl Service {
    /// What the server says to the target at `to`; `attest`: how strong its own word for who is handed on is.
    pub(super) fn word(&self, word: Word, to: &Number, attest: Attest) -> Result<Caller, Problem> {
        match word {
            Word::Vouch(from) => self.attest(&from, to, attest),
            // Who withheld their number when they called in: nothing spoke for it.
            Word::Divert { caller, .. } if caller.passport.is_empty() => Ok(caller),
            Word::Divert { caller, orig, div } => {
                let enroller = self.settings.enroller.as_deref();
                divert(enroller, caller, [&orig, &div, to], clock::now())
            }
        }
    }

    /// What speaks for who is handed on to `to` in another network: what the target is `told`, where that network reads it and it
    /// still counts there; or else the server's own word, which a telephone network can do without.
    pub(super) fn papers(
        &self,
        network: &Target,
        told: Option<&Caller>,
        [from, to]: [&Number; 2],
        attest: Attest,
    ) -> Result<(String, Vec<String>), Problem> {
        let wants_proof = matches!(network, Target::Provider(_) | Target::Customer(_));
        if told.is_some_and(|told| told.withheld) && !wants_proof {
            return Ok(Default::default());
        }
        // RFC 8946 §4: SIP alone has room for a chain.
        if let (Target::Telephony(_), Some(told)) = (network, told)
            && leads(told, clock::now())
        {
            return Ok((told.passport.clone(), told.div.clone()));
        }
        match self.attest(from, to, attest) {
            Ok(caller) => Ok((caller.passport, Vec::new())),
            Err(problem) if wants_proof => Err(problem),
            Err(_) => Ok(Default::default()),
        }
    }
}

/// Whether a caller's PASSporT, with the links after it, is for whom is called now, and not too old to be believed
/// (RFC 8225 §5.1.1).
fn leads(told: &Caller, now: Timestamp) -> bool {
    let verdict = serde_json::from_value::<Verification>(told.verification.clone());
    let whole = verdict.is_ok_and(|verdict| verdict.dest.is_none() || verdict.div);
    whole && Passport::parse(&told.passport).is_ok_and(|passport| now < passport.forgotten())
}

/// The caller's own PASSporT stays (RFC 8946 §4.1), and one by the number that diverts, whose user's token named it, leads
/// on to the target. Without it the verdict says for whom the caller's PASSporT was made.
fn divert(
    enroller: Option<&Enroller>,
    mut caller: Caller,
    [orig, div, to]: [&Number; 3],
    now: Timestamp,
) -> Result<Caller, Problem> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a call can't be handed on");
        Problem::new(Code::Internal, "no PASSporT can be made for this transfer")
    };
    let mut verdict: Verification =
        serde_json::from_value(caller.verification).map_err(|error| failed(&error))?;
    // A gap can't be closed: the target would find no PASSporT whose `dest` is this one's `div`.
    let whole = verdict.dest.is_none() || verdict.div;
    verdict.dest.get_or_insert_with(|| div.to_string());
    verdict.div = match enroller.filter(|_| whole) {
        None => false,
        Some(enroller) => {
            let named = |number: &Number| {
                let nameless = || Problem::new(Code::PassportForm, "no PASSporT can name this");
                Identity::from_number(&number.to_string()).ok_or_else(nameless)
            };
            let (orig, div, to) = (named(orig)?, named(div)?, named(to)?);
            // RFC 8946 §3: the credential is one for `div`, not for `orig`.
            let (key, chain) = enroller.credential(&div, now).map_err(|error| failed(&error))?;
            let passport = Passport::sign_with(&key, &chain, &orig, &to, &Ppt::Div { div }, now);
            caller.div.push(passport.map_err(|error| failed(&error))?);
            true
        }
    };
    let verification = serde_json::to_value(&verdict).map_err(|error| failed(&error))?;
    Ok(Caller { verification, ..caller })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::devca::DevCa;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn number(last: u32) -> Number {
        format!("+1408555000{last}").parse().unwrap()
    }

    fn original() -> Caller {
        let verification = json!({"status": "verified", "attest": "B", "origid": "o"});
        Caller { passport: "p".into(), verification, ..Caller::default() }
    }

    fn enroller() -> Enroller {
        let ca = DevCa::generate(NOW).unwrap();
        Enroller::new(ca.cert_pem(), &ca.key_pem(), std::time::Duration::from_secs(3600)).unwrap()
    }

    fn claims(passport: &str) -> (Option<String>, Vec<String>, Option<String>) {
        let passport = Passport::parse(passport).unwrap();
        let Ppt::Div { div } = passport.ppt() else { panic!("no div") };
        let dest = passport.dest().iter().filter_map(Identity::to_number).collect();
        (passport.orig().to_number(), dest, div.to_number())
    }

    #[test]
    fn each_diversion_adds_a_link_and_the_first_destination_stays() {
        let enroller = enroller();
        let [one, two, three, four] = [1, 2, 3, 4].map(number);
        let once = divert(Some(&enroller), original(), [&one, &two, &three], NOW).unwrap();
        let twice = divert(Some(&enroller), once.clone(), [&one, &three, &four], NOW).unwrap();
        assert_eq!((twice.passport.as_str(), &twice.div[0]), ("p", &once.div[0]));
        let link =
            |div: &Number, to: &Number| (Some(one.to_string()), vec![to.to_string()], Some(div.to_string()));
        assert_eq!(claims(&twice.div[0]), link(&two, &three));
        assert_eq!(claims(&twice.div[1]), link(&three, &four));
        for told in [&once, &twice] {
            let right = json!({"status": "verified", "attest": "B", "origid": "o", "dest": two.to_string(), "div": true});
            assert_eq!(told.verification, right);
        }
    }

    #[test]
    fn a_chain_goes_along_while_it_is_whole_and_its_beginning_is_not_too_old() {
        let enroller = enroller();
        let [one, two, three] = [1, 2, 3].map(number);
        let named = |number: &Number| Identity::from_number(&number.to_string()).unwrap();
        let (key, chain) = enroller.credential(&named(&one), NOW).unwrap();
        let passport = Passport::sign_with(&key, &chain, &named(&one), &named(&two), &Ppt::Base, NOW);
        let caller = Caller { passport: passport.unwrap(), ..original() };
        let told = divert(Some(&enroller), caller.clone(), [&one, &two, &three], NOW).unwrap();
        let later = |seconds| NOW + std::time::Duration::from_secs(seconds);
        assert!(leads(&told, later(60)) && !leads(&told, later(61)));
        let gap = divert(None, caller.clone(), [&one, &two, &three], NOW).unwrap();
        assert!(!leads(&gap, NOW) && leads(&caller, NOW));
        assert!(!leads(&original(), NOW) && !leads(&Caller::default(), NOW), "no PASSporT at all");
    }

    #[test]
    fn without_an_enroller_the_verdict_says_whom_it_is_about_and_no_link_is_added_later() {
        let [one, two, three, four] = [1, 2, 3, 4].map(number);
        let once = divert(None, original(), [&one, &two, &three], NOW).unwrap();
        let right = json!({"status": "verified", "attest": "B", "origid": "o", "dest": two.to_string()});
        assert_eq!((&once.verification, once.div.len()), (&right, 0));
        let twice = divert(Some(&enroller()), once, [&one, &three, &four], NOW).unwrap();
        assert_eq!((&twice.verification, twice.div.len()), (&right, 0), "a chain with a gap proves nothing");
        let whole = divert(Some(&enroller()), original(), [&one, &two, &three], NOW).unwrap();
        let broken = divert(None, whole, [&one, &three, &four], NOW).unwrap();
        assert_eq!((&broken.verification, broken.div.len()), (&right, 1));
    }
}
