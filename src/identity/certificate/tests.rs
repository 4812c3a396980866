use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::OffsetDateTime;

use super::super::jwk::SigningKey;
use super::super::passport::{Passport, PassportError, PassportTrust, Ppt};
use super::super::tn_auth_list::TnEntry;
use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 26];

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
}

fn dated(from_days: i64, to_days: i64) -> CertificateParams {
    let day = |days: i64| OffsetDateTime::from_unix_timestamp(NOW.as_secs() as i64 + days * 86_400).unwrap();
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (day(from_days), day(to_days));
    params
}

fn list(params: &mut CertificateParams, entries: Vec<TnEntry>) {
    let der = TnAuthList(entries).to_der();
    params.custom_extensions.push(CustomExtension::from_oid_content(OID, der));
}

fn one(tn: &str) -> TnEntry {
    TnEntry::One(tn.to_owned())
}

impl Ca {
    fn new(name: &str, above: Option<&Self>, entries: Vec<TnEntry>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = dated(-10, 10);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        if !entries.is_empty() {
            list(&mut params, entries);
        }
        let cert = match above {
            None => params.self_signed(&key).unwrap(),
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
        };
        let issuer = Issuer::from_ca_cert_der(cert.der(), key).unwrap();
        Self { issuer, pem: cert.pem(), der: cert.der().to_vec() }
    }

    /// A leaf for a new key, as `change` wants it.
    fn leaf(
        &self,
        entries: Vec<TnEntry>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (SigningKey, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = dated(-1, 1);
        params.distinguished_name.push(DnType::CommonName, "SHAKEN 1234");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if !entries.is_empty() {
            list(&mut params, entries);
        }
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        (SigningKey::from_pem(&key.serialize_pem()).unwrap(), der)
    }

    fn trust(&self) -> PassportTrust {
        PassportTrust { anchors: Anchors::from_pem(&self.pem).unwrap(), ..PassportTrust::default() }
    }
}

fn number(text: &str) -> Identity {
    Identity::from_number(text).unwrap()
}

/// What a server says to a call from `from`.
fn verdict(
    trust: &PassportTrust,
    key: &SigningKey,
    chain: &[Vec<u8>],
    from: &str,
) -> Result<(), PassportError> {
    let to = number("+12155551212");
    let token = Passport::sign_with(key, chain, &number(from), &to, &Ppt::Base, NOW).unwrap();
    Passport::parse(&token)?.check(trust, &to, NOW).map(drop)
}

#[test]
fn a_chain_to_an_anchor_speaks_for_its_numbers_and_no_others() {
    let root = Ca::new("root", None, vec![]);
    let middle = Ca::new("middle", Some(&root), vec![]);
    let range = TnEntry::Range("14085551000".into(), 100);
    let (key, leaf) = middle.leaf(vec![one("14155550000"), range], |_| {});
    let chain = [leaf, middle.der.clone()];
    let trust = root.trust();
    for from in ["+14155550000", "+14085551000", "+14085551099"] {
        assert_eq!(verdict(&trust, &key, &chain, from), Ok(()), "{from}");
    }
    for from in ["+14155550001", "+14085551100", "a@example.com", "4711@example.com"] {
        assert_eq!(verdict(&trust, &key, &chain, from), Err(PassportError::Orig), "{from}");
    }
}

#[test]
fn an_address_takes_an_exact_name() {
    let root = Ca::new("root", None, vec![]);
    let name = |text: &str| SanType::Rfc822Name(text.to_owned().try_into().unwrap());
    let (key, leaf) = root.leaf(vec![], |params| {
        params.subject_alt_names = vec![name("a@Example.com"), name("4711@example.com")];
    });
    let trust = root.trust();
    let says = |from| verdict(&trust, &key, std::slice::from_ref(&leaf), from);
    assert_eq!((says("a@example.com"), says("4711@example.com")), (Ok(()), Ok(())));
    for from in ["A@example.com", "b@example.com", "4712@example.com", "a@b.example.com", "+14085551000"] {
        assert_eq!(says(from), Err(PassportError::Orig), "{from}");
    }
}

#[test]
fn what_leads_to_no_anchor_is_refused() {
    let (root, other) = (Ca::new("root", None, vec![]), Ca::new("root", None, vec![]));
    let tn = || vec![one("14085551000")];
    let from = "+14085551000";
    let (key, leaf) = root.leaf(tn(), |_| {});
    let own = [leaf.clone()];
    assert_eq!(verdict(&root.trust(), &key, &own, from), Ok(()));
    assert_eq!(verdict(&other.trust(), &key, &own, from), Err(PassportError::Chain));
    assert_eq!(verdict(&PassportTrust::default(), &key, &own, from), Err(PassportError::Chain));
    let middle = Ca::new("middle", Some(&root), vec![]);
    let (inner_key, inner) = middle.leaf(tn(), |_| {});
    let missing = verdict(&root.trust(), &inner_key, &[inner], from);
    assert_eq!(missing, Err(PassportError::Chain), "its issuer is missing");
    let (expired_key, expired) = root.leaf(tn(), |params| {
        let day =
            |days: i64| OffsetDateTime::from_unix_timestamp(NOW.as_secs() as i64 + days * 86_400).unwrap();
        (params.not_before, params.not_after) = (day(-3), day(-1));
    });
    assert_eq!(verdict(&root.trust(), &expired_key, &[expired], from), Err(PassportError::Chain));
    let (ca_key, ca) = root.leaf(tn(), |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(verdict(&root.trust(), &ca_key, &[ca], from), Err(PassportError::Chain), "a CA calls nobody");
    let (sealed_key, sealed) =
        root.leaf(tn(), |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert_eq!(verdict(&root.trust(), &sealed_key, &[sealed], from), Err(PassportError::Chain));
    // Somebody else's certificate.
    let stranger = SigningKey::generate().unwrap();
    assert_eq!(verdict(&root.trust(), &stranger, &own, from), Err(PassportError::Signature));
    assert_eq!(verdict(&root.trust(), &key, &[], from), Err(PassportError::Signature));
}

#[test]
fn nobody_delegates_more_than_they_have() {
    let root = Ca::new("root", None, vec![]);
    let middle = Ca::new("middle", Some(&root), vec![TnEntry::Range("14085551000".into(), 10)]);
    let (key, leaf) = middle.leaf(vec![TnEntry::Range("14085551000".into(), 100)], |_| {});
    let chain = [leaf, middle.der.clone()];
    assert_eq!(verdict(&root.trust(), &key, &chain, "+14085551009"), Ok(()));
    assert_eq!(verdict(&root.trust(), &key, &chain, "+14085551010"), Err(PassportError::Orig));
}

#[test]
fn a_configured_key_counts_beside_a_chain_of_no_use() {
    let root = Ca::new("root", None, vec![]);
    let (key, leaf) = root.leaf(vec![one("1")], |_| {});
    let mut trust = PassportTrust::any_number(super::super::jwk::JwkSet::new(vec![key.public().clone()]));
    assert_eq!(verdict(&trust, &key, std::slice::from_ref(&leaf), "+14085551000"), Ok(()));
    trust.signers[0].numbers = vec!["+44*".into()];
    assert_eq!(verdict(&trust, &key, &[], "+14085551000"), Err(PassportError::Orig));
}

#[test]
fn what_is_no_chain_has_the_wrong_form() {
    let root = Ca::new("root", None, vec![]);
    let (key, leaf) = root.leaf(vec![one("14085551000")], |_| {});
    let trust = root.trust();
    let form = |chain: &[Vec<u8>]| {
        matches!(verdict(&trust, &key, chain, "+14085551000"), Err(PassportError::Form(_)))
    };
    let mut longer = leaf.clone();
    longer.push(0);
    assert!(form(&[b"nonsense".to_vec()]) && form(&[leaf.clone(), vec![]]) && form(&[longer]));
    assert!(form(&vec![leaf; MAX_CHAIN + 1]));
    assert_eq!(Anchors::from_pem("").err(), Some(ChainError::Form));
}
