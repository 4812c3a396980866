//! What the demonstration prints: the ladder, the figures, the verdict.

use std::path::Path;

use super::{CALLEE, CALLER, Side};
use crate::client::CallEvent;
use crate::protocol::event::{Body, Event};

/// Prints it all; true if each side heard the other.
pub(super) fn print(sides: &[Side; 2]) -> bool {
    ladder(sides);
    for side in sides {
        figures(side);
    }
    let passed = sides.iter().all(|side| side.heard.holds_speech());
    println!(
        "\n{}",
        if passed { "both heard each other" } else { "FAILED: somebody did not hear the other" }
    );
    passed
}

/// The events of both sides in the order in which they came, milliseconds from the start.
fn ladder([caller, callee]: &[Side; 2]) {
    println!("{:>8}  {:<34}{:^12}callee (bob)", "ms", "caller (alice)", "server");
    let mut rungs: Vec<(f64, bool, String)> = Vec::new();
    for (side, left) in [(caller, true), (callee, false)] {
        for happened in &side.happened {
            if let Some(text) = words(&happened.event) {
                rungs.push((happened.at.as_secs_f64() * 1000.0, left, text));
            }
        }
    }
    rungs.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (ms, left, text) in rungs {
        if left {
            println!("{ms:>8.1}  {text:<30} <----  |");
        } else {
            println!("{ms:>8.1}  {:<38}|  ----> {text}", "");
        }
    }
}

fn words(event: &CallEvent) -> Option<String> {
    match event {
        CallEvent::Server(event) => server_words(event),
        CallEvent::Media { path, .. } => Some(format!("media over {}", path.as_str())),
        CallEvent::MediaLost { .. } => Some("media lost".into()),
        _ => None,
    }
}

fn server_words(event: &Event) -> Option<String> {
    let name = serde_json::to_value(&event.body).ok()?["event"].as_str()?.to_owned();
    Some(match &event.body {
        Body::Accepted { .. } | Body::Quality { .. } | Body::Pong { .. } => return None,
        Body::Directives { client_directives, .. } => {
            format!("{name} {}", client_directives.as_str().unwrap_or_default())
        }
        Body::Ended { by, reason } => format!("{name} by {by:?}: {reason}").to_lowercase(),
        _ => name,
    })
}

fn figures(side: &Side) {
    let media = &side.stats.media;
    let path = side.stats.path.map_or("no media path", |path| path.as_str());
    println!("\n{}  media over {path}", side.name);
    println!(
        "  sent {} chunks; received {}, lost {}; jitter {:.1} ms, jitter buffer {} ms, MOS {}",
        media.sent,
        media.received,
        media.lost,
        media.jitter_ms,
        side.sound.playout.as_millis(),
        media.mos.map_or_else(|| "–".into(), |mos| format!("{mos:.2}")),
    );
    println!(
        "  heard the other side: correlation {:.2}, {:.0} % of the speech found{}",
        side.heard.score,
        side.heard.coverage * 100.0,
        if side.heard.holds_speech() { "" } else { ": NOT ENOUGH" },
    );
    println!("  recording {}", side.recording.display());
}

/// What to try with a server that was left running.
pub(super) fn more(url: &str, folder: &Path) {
    let folder = folder.display();
    println!("\nThe server stays up until Ctrl-C. In two other terminals:\n");
    println!("  export RIPT_SERVER={url} RIPT_DEV={folder}");
    println!(
        "  RIPT_TOKEN=$(ript token --data {folder} --user bob --number {CALLEE}) ript listen --record bob.wav"
    );
    println!(
        "  RIPT_TOKEN=$(ript token --data {folder} --user alice --number {CALLER}) ript call {CALLEE} --duration 6 --record alice.wav"
    );
}
