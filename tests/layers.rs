//! A layer imports only from below: every `crate::` path in `src` is looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each module's layer, and, within one layer, what it may use besides what lies below.
fn layers() -> BTreeMap<&'static str, (u8, &'static [&'static str])> {
    BTreeMap::from([
        ("protocol", (0, [].as_slice())),
        ("clock", (1, &[])),
        ("call", (1, &[])),
        ("identity", (1, &[])),
        ("media", (1, &[])),
        ("store", (2, &[])),
        ("service", (2, &["store"])),
        ("transport", (3, &[])),
        ("resource", (3, &["transport"])),
        ("adapter", (4, &[])),
        ("client", (5, &[])),
        ("trunk", (5, &["client"])),
        ("telemetry", (5, &[])),
        ("openapi", (5, &[])),
        ("config", (5, &["telemetry"])),
        ("cli", (5, &["client", "config", "openapi", "telemetry", "trunk"])),
    ])
}

/// Layers by which nobody may read the clock.
const PURE: [&str; 4] = ["protocol", "call", "identity", "media"];

/// The way in, whose insides are no business of adapters though it lies below them.
const WAY_IN: [&str; 2] = ["transport", "resource"];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The first path segments that follow `crate::` in a text, `{a, b}` lists too.
fn uses(text: &str) -> Vec<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                found.extend(list.split(',').map(|item| word(item.trim())));
            }
            None => found.push(word(rest)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn a_layer_imports_only_from_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let layers = layers();
    let mut wrong = Vec::new();
    let mut edges = 0;
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let (own, beside) = layers.get(room).unwrap_or_else(|| panic!("{room} has no layer"));
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for used in uses(&code).into_iter().filter(|u| u != room) {
            let Some((layer, _)) = layers.get(used.as_str()) else {
                wrong.push(format!("{}: crate::{used} has no layer", inside.display()));
                continue;
            };
            edges += 1;
            let clock = used == "clock" && PURE.contains(&room);
            let way_in = room == "adapter" && WAY_IN.contains(&used.as_str());
            if clock || way_in || layer > own || (layer == own && !beside.contains(&used.as_str())) {
                wrong.push(format!("{}: {room} (L{own}) uses {used} (L{layer})", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(edges > 50, "the paths were not found: {edges}");
}

#[test]
fn upward_edges_are_seen_in_every_spelling() {
    assert_eq!(uses("use crate::service::x; crate::{media, call::Leg}"), ["service", "media", "call"]);
    assert_eq!(uses("pub(crate) fn x() {}"), Vec::<String>::new());
}
