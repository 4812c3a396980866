//! The keys that there are, and the nearest one to a key that there isn't.

use strsim::{jaro_winkler, normalized_damerau_levenshtein};

/// Keys that the environment can give too.
pub(super) const KEYS: &[&str] = &[
    "listen",
    "clear-listen",
    "data",
    "trusted-proxies",
    "origins",
    "log",
    "tls.certificate",
    "tls.key",
    "passport.keys",
    "passport.anchors",
    "passport.x5u-hosts",
    "certs.certificate",
    "certs.key",
    "certs.lifetime-ms",
    "fetch.allow",
    "fetch.ca",
    "audit.numbers",
    "camara.min-registration-ms",
    "camara.max-registration-ms",
    "camara.default-registration-ms",
    "camara.registrations-per-number",
    "camara.devices-per-user",
    "camara.tg",
    "camara.emergency-number",
    "camara.location",
    "camara.sinks.allow",
    "camara.sinks.ca",
    "camara.sinks.per-user",
    "camara.sinks.max-subscription-ms",
    "camara.webrtc.listen",
    "camara.webrtc.public",
    "camara.webrtc.sessions",
    "camara.webrtc.offerless-invitations",
    "sip.rtp-listen",
    "sip.rtp-public",
    "sip.rtp-ports",
    "sip.max-calls",
    "sip.dns",
    "timing.answer-timeout-ms",
    "timing.no-signalling-ms",
    "timing.claim-ms",
    "timing.keep-ended-ms",
    "timing.keepalive-ms",
    "timing.drain-ms",
    "limits.body-bytes",
    "limits.header-bytes",
    "limits.chunk-bytes",
    "limits.calls-per-user",
    "limits.calls",
    "limits.calls-per-second",
    "limits.handlers-per-user",
    "limits.byways-per-leg",
    "limits.connections",
    "limits.sessions-per-connection",
    "limits.requests-per-connection",
];

/// Keys of arrays of tables, which only the file can give.
pub(super) const TABLE_KEYS: &[&str] = &[
    "issuer.issuer",
    "issuer.audience",
    "issuer.keys",
    "issuer.numbers-claim",
    "issuer.tgs-claim",
    "issuer.introspection-client-id",
    "issuer.introspection-client-secret-file",
    "issuer.login-client-id",
    "passport.signer.keys",
    "passport.signer.numbers",
    "tg.id",
    "tg.name",
    "tg.description",
    "tg.destinations",
    "tg.inbound",
    "tg.retry-backoff-ms",
    "tg.media-timeout-ms",
    "tg.calls",
    "tg.calls-per-second",
    "operator.url",
    "operator.number",
    "operator.token-url",
    "operator.client-id",
    "operator.client-secret",
    "operator.client-secret-file",
    "operator.token-file",
    "operator.destinations",
    "operator.device-id",
    "operator.ca",
    "sip.account.number",
    "sip.account.identity",
    "sip.account.k",
    "sip.account.opc",
    "sip.account.registrar",
    "sip.account.proxy",
    "sip.account.expires-ms",
    "sip.account.always",
    "sip.account.ims",
    "sip.account.listen",
    "sip.account.tls-listen",
    "sip.account.public",
    "sip.account.certificate",
    "sip.account.key",
    "sip.account.ca",
    "sip.account.peers",
    "sip.account.peer-names",
    "sip.account.requests-per-second",
    "sip.account.keepalive-ms",
    "sip.account.destinations",
    "sip.account.codecs",
    "sip.account.srtp",
    "sip.account.srtp-in-clear",
    "sip.account.session-expires-ms",
    "sip.account.emergency",
    "sip.account.access-network-info",
    "sip.account.user",
    "sip.account.password",
    "sip.account.password-file",
    "sip.trunk.name",
    "sip.trunk.server",
    "sip.trunk.numbers",
    "sip.trunk.attest",
    "sip.trunk.trusted",
    "sip.trunk.x5u",
    "sip.trunk.ping-ms",
    "sip.trunk.listen",
    "sip.trunk.tls-listen",
    "sip.trunk.public",
    "sip.trunk.certificate",
    "sip.trunk.key",
    "sip.trunk.ca",
    "sip.trunk.peers",
    "sip.trunk.peer-names",
    "sip.trunk.requests-per-second",
    "sip.trunk.keepalive-ms",
    "sip.trunk.destinations",
    "sip.trunk.codecs",
    "sip.trunk.srtp",
    "sip.trunk.srtp-in-clear",
    "sip.trunk.session-expires-ms",
    "sip.trunk.emergency",
    "sip.trunk.access-network-info",
    "sip.trunk.user",
    "sip.trunk.password",
    "sip.trunk.password-file",
];

/// Variables that begin like ours and are another part's business.
pub(super) const OTHER_VARIABLES: &[&str] = &[
    "RIPT_SERVER",
    "RIPT_TOKEN",
    "RIPT_CA",
    "RIPT_PASSPORT_KEY",
    "RIPT_PASSPORT_CHAIN",
    "RIPT_DEV",
    "RIPT_CONFIG",
    "RIPT_LOG",
];

/// More alike than this is taken for a slip of the finger.
const ALIKE: f64 = 0.6;

/// Whether there is such a key.
pub(super) fn is_known(key: &str) -> bool {
    KEYS.contains(&key) || TABLE_KEYS.contains(&key)
}

/// The environment variable for a key.
pub(super) fn variable(key: &str) -> String {
    format!("RIPT_{}", key.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// The key that an environment variable stands for.
pub(super) fn of_variable(name: &str) -> Option<&'static str> {
    KEYS.iter().find(|key| variable(key) == name).copied()
}

/// The variable most like `name`.
pub(super) fn nearest_variable(name: &str) -> String {
    let names = KEYS.iter().map(|key| variable(key));
    most_alike(name, names.chain(OTHER_VARIABLES.iter().map(|&name| name.to_owned()))).1
}

/// The key, or table, most like `key`: first a slip in its own table, then the same name elsewhere.
pub(super) fn nearest(key: &str) -> String {
    let (table, name) = key.rsplit_once('.').map_or(("", key), |(table, name)| (table, name));
    let all = || KEYS.iter().chain(TABLE_KEYS).copied();
    let siblings = all().filter_map(|known| {
        let rest = if table.is_empty() { known } else { known.strip_prefix(table)?.strip_prefix('.')? };
        rest.split('.').next()
    });
    let (alike, sibling) = most_alike(name, siblings.map(str::to_owned));
    if alike >= ALIKE {
        return if table.is_empty() { sibling } else { format!("{table}.{sibling}") };
    }
    let elsewhere = all().find(|known| known.rsplit('.').next() == Some(name));
    elsewhere.map_or_else(|| most_alike(key, all().map(str::to_owned)).1, str::to_owned)
}

/// Of two that are as many slips away the one that begins alike is nearer: `tgs` means `tg`, not `tls`.
fn likeness(text: &str, candidate: &str) -> f64 {
    normalized_damerau_levenshtein(text, candidate) + jaro_winkler(text, candidate) / 100.0
}

fn most_alike(text: &str, candidates: impl Iterator<Item = String>) -> (f64, String) {
    let scored = candidates.map(|candidate| (likeness(text, &candidate), candidate));
    scored.fold((-1.0, String::new()), |best, next| if next.0 > best.0 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_a_sibling_then_a_namesake_then_whatever_is_most_alike() {
        for (wrong, right) in [
            ("listne", "listen"),
            ("limit", "limits"),
            ("tgs", "tg"),
            ("limits.calsl", "limits.calls"),
            ("limits.call-per-user", "limits.calls-per-user"),
            ("calls", "limits.calls"),
            ("certificate", "tls.certificate"),
            ("tg.destination", "tg.destinations"),
            ("passport.signers", "passport.signer"),
            ("passport.signer.number", "passport.signer.numbers"),
            ("issuer.numbers_claim", "issuer.numbers-claim"),
            ("answer-timeout", "timing.answer-timeout-ms"),
        ] {
            assert_eq!(nearest(wrong), right, "{wrong}");
        }
    }

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        for key in KEYS {
            assert_eq!(of_variable(&variable(key)), Some(*key));
            assert!(*key == "log" || !OTHER_VARIABLES.contains(&variable(key).as_str()), "{key}");
        }
        assert_eq!(nearest_variable("RIPT_LIMTS_CALLS"), "RIPT_LIMITS_CALLS");
        assert_eq!(nearest_variable("RIPT_TOKENS"), "RIPT_TOKEN");
        assert_eq!(nearest_variable("RIPT_LISTENS"), "RIPT_LISTEN");
    }
}
