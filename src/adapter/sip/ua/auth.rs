//! Challenges and what answers them (RFC 3261 §22).

use rsipstack::sip::{Header, Request, Response};

use super::{Profile, build, header};

/// Challenges that are remembered, so that later requests answer them unasked (RFC 3261 §22.3).
const REMEMBERED: usize = 4;

/// Challenges of one response that are looked at.
const MOST_CHALLENGES: usize = 8;

/// How often one request answers.
const TRIES: u8 = 4;

/// The challenges that a call met.
#[derive(Debug, Default)]
pub(super) struct Challenges(Vec<Challenge>);

#[derive(Debug)]
struct Challenge {
    /// 407, not 401.
    proxy: bool,
    realm: String,
    nonce: String,
    /// All of the realm's, joined by commas.
    text: String,
    /// Only the nonce was too old.
    stale: bool,
    count: u32,
}

/// What a request has answered so far.
#[derive(Debug, Default)]
pub(super) struct Answered {
    tries: u8,
    /// Whether of a proxy, and whose.
    realms: Vec<(bool, String)>,
}

impl Challenge {
    /// One for each realm: the challenges of a realm, one for each algorithm, are answered by one answer (RFC 8760 §2.4), to
    /// the strongest that is known.
    fn all(response: &Response) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for proxy in [false, true] {
            let name = if proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" };
            for text in header::all(&response.headers, name).take(MOST_CHALLENGES) {
                let realm = value(text, "realm");
                let stale = value(text, "stale").eq_ignore_ascii_case("true");
                match all.iter_mut().find(|known| known.is_of(proxy, &realm)) {
                    Some(known) => {
                        known.text = format!("{}, {text}", known.text);
                        known.stale |= stale;
                    }
                    None => {
                        let nonce = value(text, "nonce");
                        all.push(Self { proxy, realm, nonce, text: text.to_owned(), stale, count: 1 });
                    }
                }
            }
        }
        all
    }

    fn is_of(&self, proxy: bool, realm: &str) -> bool {
        self.proxy == proxy && self.realm == realm
    }
}

impl Challenges {
    /// Takes in a 401 or 407, and puts the answers into the request that is to go again. False: it can't be answered, or was; the
    /// request is as it was.
    pub(super) fn take(
        &mut self,
        profile: &Profile,
        request: &mut Request,
        response: &Response,
        answered: &mut Answered,
    ) -> bool {
        let Some(credentials) = &profile.credentials else { return false };
        answered.tries = answered.tries.saturating_add(1);
        if answered.tries > TRIES {
            return false;
        }
        let (method, uri) = (request.method.to_string(), request.uri.to_string());
        let mut taken: Vec<Challenge> = Vec::new();
        let mut lines = Vec::new();
        for found in Challenge::all(response) {
            // RFC 3261 §22.1: who isn't content with an answer, and doesn't say that only the nonce was too old, has refused it.
            let again = answered.realms.iter().any(|(proxy, realm)| found.is_of(*proxy, realm));
            if again && !found.stale {
                continue;
            }
            let Some(answer) = credentials.authorize(&found.text, &method, &uri, &request.body, 1) else {
                continue;
            };
            lines.push(build::line(answer_name(found.proxy), answer));
            taken.push(found);
        }
        if taken.is_empty() {
            return false;
        }
        answered.realms.extend(taken.iter().map(|c| (c.proxy, c.realm.clone())));
        self.0.retain(|known| !taken.iter().any(|c| c.is_of(known.proxy, &known.realm)));
        // RFC 3261 §22.3: the proxies that were satisfied before want to be so again.
        self.sign(profile, request);
        request.headers.extend(lines);
        self.0.extend(taken);
        let many = self.0.len().saturating_sub(REMEMBERED);
        self.0.drain(..many);
        true
    }

    /// Puts the answers to all challenges known into a request, for those that stand there.
    pub(super) fn sign(&mut self, profile: &Profile, request: &mut Request) {
        let Some(credentials) = &profile.credentials else { return };
        request.headers.retain(|h| !matches!(h, Header::Authorization(_) | Header::ProxyAuthorization(_)));
        let (method, uri) = (request.method.to_string(), request.uri.to_string());
        for challenge in &mut self.0 {
            challenge.count = challenge.count.saturating_add(1);
            let answer =
                credentials.authorize(&challenge.text, &method, &uri, &request.body, challenge.count);
            if let Some(answer) = answer {
                request.headers.push(build::line(answer_name(challenge.proxy), answer));
            }
        }
    }

    /// RFC 7616 §3.5: the next nonce, of Authentication-Info.
    pub(super) fn renew(&mut self, response: &Response) {
        for (name, proxy) in [("Authentication-Info", false), ("Proxy-Authentication-Info", true)] {
            let Some(next) = header::first(&response.headers, name).map(|i| value(i, "nextnonce")) else {
                continue;
            };
            let mut own = self.0.iter_mut().filter(|c| c.proxy == proxy);
            if let (false, Some(challenge)) = (next.is_empty(), own.next()) {
                let old = format!("nonce=\"{}\"", challenge.nonce);
                challenge.text = challenge.text.replace(&old, &format!("nonce=\"{next}\""));
                challenge.nonce = next;
                challenge.count = 0;
            }
        }
    }
}

fn answer_name(proxy: bool) -> &'static str {
    if proxy { "Proxy-Authorization" } else { "Authorization" }
}

/// A parameter of a challenge, unquoted.
fn value(challenge: &str, name: &str) -> String {
    let (_, params) = challenge.trim().split_once(char::is_whitespace).unwrap_or(("", challenge));
    let found = header::split(params, ',').into_iter().chain(header::split(challenge, ',')).find_map(|p| {
        let (key, value) = p.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    });
    found.unwrap_or_default()
}
