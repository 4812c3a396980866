//! What a registrar says of registrations: application/reginfo+xml (RFC 3680 §5).

use std::time::Duration;

/// The longest document that is read, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// The most XML nodes.
const MAX_NODES: u32 = 20_000;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reginfo {
    pub(super) version: u32,
    /// All there is, or only what changed.
    pub(super) full: bool,
    pub(super) registrations: Vec<Entry>,
}

/// An address of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) aor: String,
    pub(super) terminated: bool,
    pub(super) contacts: Vec<Bound>,
}

/// A contact bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) uri: String,
    pub(super) instance: Option<String>,
    pub(super) reg_id: Option<String>,
    pub(super) terminated: bool,
    /// RFC 3680 §5.3: registered, created, refreshed, shortened, expired, deactivated, probation, unregistered, rejected.
    pub(super) event: String,
    pub(super) expires: Option<Duration>,
    pub(super) retry_after: Option<Duration>,
}

impl Reginfo {
    /// Reads one, by local names; unknown elements are passed over. Entities and DTDs are refused.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..bytes.len().min(MAX_BYTES + 1))?).ok()?;
        if text.len() > MAX_BYTES || too_deep(text) {
            return None;
        }
        let options =
            roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(text, options).ok()?;
        let root = document.root_element();
        if root.tag_name().name() != "reginfo" {
            return None;
        }
        Some(Self {
            version: root.attribute("version")?.trim().parse().ok()?,
            full: root.attribute("state").is_some_and(|state| state.trim() == "full"),
            registrations: named(root, "registration").filter_map(entry).collect(),
        })
    }
}

fn named<'a, 'i: 'a>(
    node: roxmltree::Node<'a, 'i>,
    name: &'static str,
) -> impl Iterator<Item = roxmltree::Node<'a, 'i>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

fn entry(node: roxmltree::Node<'_, '_>) -> Option<Entry> {
    Some(Entry {
        aor: node.attribute("aor")?.trim().to_owned(),
        terminated: node.attribute("state") == Some("terminated"),
        contacts: named(node, "contact").filter_map(bound).collect(),
    })
}

fn bound(node: roxmltree::Node<'_, '_>) -> Option<Bound> {
    let seconds = |name| {
        let text = node.attribute(name)?;
        Some(Duration::from_secs(text.trim().parse::<u32>().ok()?.into()))
    };
    // RFC 3680 §5.3.2: the Contact's parameters, under their names.
    let param = |name: &str| {
        let found = named(node, "unknown-param").find(|param| param.attribute("name") == Some(name))?;
        Some(found.text()?.trim().trim_matches('"').to_owned())
    };
    Some(Bound {
        uri: named(node, "uri").next()?.text()?.trim().to_owned(),
        instance: param("+sip.instance"),
        reg_id: param("reg-id"),
        terminated: node.attribute("state") == Some("terminated"),
        event: node.attribute("event").unwrap_or_default().to_ascii_lowercase(),
        expires: seconds("expires"),
        retry_after: seconds("retry-after"),
    })
}

/// Whether more elements may be open at once than a registrar has use for: the parser's stack is ours.
fn too_deep(text: &str) -> bool {
    const MOST: usize = 32;
    let mut depth = 0_usize;
    for piece in text.split('<').skip(1) {
        match piece.as_bytes().first() {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(b'!' | b'?') | None => {}
            Some(_) if piece.split('>').next().is_some_and(|tag| tag.ends_with('/')) => {}
            Some(_) => depth += 1,
        }
        if depth > MOST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Kamailio's S-CSCF writes it.
    const KAMAILIO: &str = r#"<?xml version="1.0"?>
<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" xmlns:gr="urn:ietf:params:xml:ns:gruuinfo" version="3" state="full">
	<registration aor="sip:ript@ims.test" id="0x7f0a" state="active">
		<contact id="0x7f0b" state="active" event="registered" expires="540" q="0.500">
			<uri>sip:ript@127.0.0.109:5070</uri>
			<unknown-param name="+sip.instance">"&lt;urn:uuid:00000000-0000-1000-8000-000A95A0E128&gt;"</unknown-param>
		</contact>
		<contact id="0x7f0c" state="terminated" event="probation" retry-after="7"><uri>sip:x@y</uri></contact>
	</registration>
	<registration aor="tel:+15550009" id="0x7f0d" state="terminated"/>
</reginfo>"#;

    #[test]
    fn a_kamailio_document_is_read() {
        let read = Reginfo::read(KAMAILIO.as_bytes()).unwrap();
        assert_eq!((read.version, read.full, read.registrations.len()), (3, true, 2));
        let first = &read.registrations[0];
        assert_eq!(
            (first.aor.as_str(), first.terminated, first.contacts.len()),
            ("sip:ript@ims.test", false, 2)
        );
        let ours = &first.contacts[0];
        assert_eq!(ours.uri, "sip:ript@127.0.0.109:5070");
        assert_eq!(ours.instance.as_deref(), Some("<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"));
        assert_eq!((ours.terminated, ours.event.as_str()), (false, "registered"));
        assert_eq!(ours.expires, Some(Duration::from_secs(540)));
        assert_eq!(first.contacts[1].retry_after, Some(Duration::from_secs(7)));
        assert!(read.registrations[1].terminated);
    }

    #[test]
    fn bombs_and_what_is_no_reginfo_are_refused() {
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><reginfo version=\"0\" state=\"full\">&b;</reginfo>";
        let deep = format!(
            "<reginfo version=\"0\" state=\"full\">{}{}</reginfo>",
            "<a>".repeat(100_000 / 8),
            "</a>".repeat(100_000 / 8)
        );
        let long =
            format!("<reginfo version=\"0\" state=\"full\"><!--{}--></reginfo>", "x".repeat(MAX_BYTES));
        let wide = format!("<reginfo version=\"0\" state=\"full\">{}</reginfo>", "<a/>".repeat(30_000));
        for text in [
            bomb,
            &deep,
            &long,
            &wide,
            "",
            "<reginfo/>",
            "<presence version=\"0\"/>",
            "<reginfo version=\"-1\" state=\"full\"/>",
            "<reginfo version=\"0\"",
        ] {
            assert_eq!(Reginfo::read(text.as_bytes()), None, "{}", &text[..text.len().min(80)]);
        }
        assert_eq!(Reginfo::read(b"<reginfo version=\"0\" state=\"full\">\xff</reginfo>"), None);
    }

    proptest! {
        #[test]
        fn a_damaged_document_is_read_or_refused(at in 0..KAMAILIO.len(), with in any::<u8>(), cut in 0..KAMAILIO.len()) {
            let mut bytes = KAMAILIO.as_bytes().to_vec();
            bytes[at] = with;
            bytes.truncate(cut.max(1));
            let _ = Reginfo::read(&bytes);
            let mut whole = KAMAILIO.as_bytes().to_vec();
            whole[at] = with;
            let _ = Reginfo::read(&whole);
        }
    }
}
