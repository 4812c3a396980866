use proptest::prelude::*;
use rcgen::{BasicConstraints, PKCS_ECDSA_P384_SHA384};

use super::super::certificate::{Anchors, Chain};
use super::super::devca::DevCa;
use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn enroller() -> (DevCa, Enroller) {
    let ca = DevCa::generate(NOW).unwrap();
    let enroller = Enroller::new(ca.cert_pem(), &ca.key_pem(), HOUR).unwrap();
    (ca, enroller)
}

fn number(text: &str) -> Identity {
    Identity::from_number(text).unwrap()
}

fn chain(pem: &str) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.unwrap().to_vec()).collect()
}

#[test]
fn who_may_use_a_number_gets_a_certificate_for_it_and_nothing_else() {
    let (ca, enroller) = enroller();
    let anchors = Anchors::from_pem(ca.cert_pem()).unwrap();
    for (own, other) in
        [("+14085551000", "+14085551001"), ("a@example.com", "b@example.com"), ("4711@example.com", "+4711")]
    {
        let key = SigningKey::generate().unwrap();
        let csr = request(&key, &number(own)).unwrap();
        let refused = enroller.enrol(&csr, |_| false, NOW);
        assert_eq!(refused, Err(EnrolError::NotYours));
        let made = chain(&enroller.enrol(&csr, |asked| *asked == number(own), NOW).unwrap());
        assert_eq!(made.len(), 1, "the root is left out");
        assert_eq!(ends(&made[0]), Some(NOW + HOUR));
        let made = Chain::new(made).unwrap();
        assert_eq!(made.key().thumbprint(), key.public().thumbprint());
        made.check(&anchors, NOW).unwrap();
        assert!(made.check(&anchors, NOW + HOUR * 2).is_err());
        assert!(made.covers(&number(own)) && !made.covers(&number(other)));
    }
}

#[test]
fn a_request_of_another_kind_says_what_would_be_right() {
    let (_, enroller) = enroller();
    let key = KeyPair::generate().unwrap();
    let says = |params: &CertificateParams, key: &KeyPair| {
        let csr = params.serialize_request(key).unwrap().der().to_vec();
        enroller.enrol(&csr, |_| true, NOW).unwrap_err().to_string()
    };
    let good = || params(&number("+14085551000")).unwrap();
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = good();
        change(&mut params);
        says(&params, &key)
    };
    let list = |entries: Vec<TnEntry>| CustomExtension::from_oid_content(OID, TnAuthList(entries).to_der());
    let one = |tn: &str| TnEntry::One(tn.into());
    assert!(with(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).contains("no CA"));
    assert!(with(&|p| p.custom_extensions.clear()).contains("exactly one"));
    assert!(with(&|p| p.custom_extensions = vec![list(vec![one("1"), one("2")])]).contains("exactly one"));
    assert!(with(&|p| p.custom_extensions = vec![list(vec![one("1*")])]).contains("can't be read"));
    assert!(
        with(&|p| p.custom_extensions = vec![list(vec![TnEntry::Range("1".into(), 9)])]).contains("no range")
    );
    let name = |text: &str| SanType::Rfc822Name(text.to_owned().try_into().unwrap());
    assert!(with(&|p| p.subject_alt_names = vec![name("a@b.c")]).contains("exactly one"));
    assert!(
        with(&|p| p.subject_alt_names = vec![SanType::DnsName("b.c".try_into().unwrap())])
            .contains("rfc822Name")
    );
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(says(&good(), &p384).contains("P-256"));
    let mut forged = good().serialize_request(&key).unwrap().der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(enroller.enrol(&forged, |_| true, NOW), Err(EnrolError::Request(_))));
    assert!(matches!(enroller.enrol(&[0; MAX_CSR + 1], |_| true, NOW), Err(EnrolError::Request(_))));
}

#[test]
fn an_issuer_that_is_none_or_has_ended_issues_nothing() {
    let (ca, enroller) = enroller();
    let leaf = ca.issue_server(&[], NOW).unwrap();
    assert!(Enroller::new(&leaf.cert_pem, &leaf.key_pem, HOUR).is_err());
    assert!(Enroller::new(ca.cert_pem(), &leaf.key_pem, HOUR).is_err());
    assert!(Enroller::new("", &ca.key_pem(), HOUR).is_err());
    let csr = request(&SigningKey::generate().unwrap(), &number("+1")).unwrap();
    let late = enroller.enrol(&csr, |_| true, NOW + Duration::from_secs(11 * 86_400));
    assert!(matches!(late, Err(EnrolError::Issuer(_))));
}

proptest! {
    #[test]
    fn hostile_bytes_get_no_certificate(at in 0..400usize, byte in any::<u8>(), cut in 0..400usize) {
        let (_, enroller) = enroller();
        let mut csr = request(&SigningKey::generate().unwrap(), &number("+14085551000")).unwrap();
        let (at, cut) = (at % csr.len(), cut % csr.len());
        let same = csr[at] == byte;
        csr[at] = byte;
        prop_assert!(enroller.enrol(&csr, |_| true, NOW).is_ok() == same);
        prop_assert!(enroller.enrol(&csr[..cut], |_| true, NOW).is_err());
    }
}

#[test]
fn what_stands_outside_the_signed_part_is_der_to_the_letter() {
    let (_, enroller) = enroller();
    let csr = request(&SigningKey::generate().unwrap(), &number("+14085551000")).unwrap();
    // The frame, and from the algorithm on: two or three bytes before the ECDSA signature's own.
    let outside = [0, 1].into_iter().chain(csr.len() - 90..csr.len());
    for (at, byte) in outside.flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
        let mut changed = csr.clone();
        changed[at] = byte;
        assert_eq!(enroller.enrol(&changed, |_| true, NOW).is_ok(), changed == csr, "{at}: {byte:02x}");
    }
}
