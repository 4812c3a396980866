//! What a person or a program sees of a call: lines, one status line rewritten in place, or JSON.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{AudioStats, CallEvent, CallStats, ForwardMode, Happened, MediaGap};
use crate::protocol::event::{Body, State};

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// A person at a terminal.
    Person,
    /// A file or a pipe.
    Log,
    /// A program.
    Program,
}

/// The output of a command.
#[derive(Debug)]
pub struct Terminal {
    reader: Reader,
    /// A status line stands there and is to be wiped before anything else is written.
    dirty: bool,
}

impl Terminal {
    /// On standard output.
    pub fn new(json: bool) -> Self {
        let reader = match (json, std::io::stdout().is_terminal()) {
            (true, _) => Reader::Program,
            (false, true) => Reader::Person,
            (false, false) => Reader::Log,
        };
        Self { reader, dirty: false }
    }

    /// A line for people.
    pub fn say(&mut self, line: &str) {
        if self.reader != Reader::Program {
            self.write(&format!("{}{line}\n", self.wipe()));
            self.dirty = false;
        }
    }

    /// An object for programs.
    pub fn json(&mut self, object: &Value) {
        if self.reader == Reader::Program {
            self.write(&format!("{object}\n"));
        }
    }

    /// What happened to a call.
    pub fn event(&mut self, call: &str, happened: &Happened) {
        self.json(&to_json(call, happened));
        if let Some(line) = line(&happened.event) {
            self.say(&line);
        }
    }

    /// How a call fares: rewritten in place for a person, told to a program, not told to a log.
    pub fn status(&mut self, call: &str, stats: &CallStats, audio: &AudioStats) {
        match self.reader {
            Reader::Person => {
                self.write(&format!("\r\x1b[K{}", status_line(stats, audio)));
                self.dirty = true;
            }
            Reader::Program => self.json(&status_json(call, stats, audio)),
            Reader::Log => {}
        }
    }

    fn wipe(&self) -> &'static str {
        if self.dirty { "\r\x1b[K" } else { "" }
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody reads on: the call goes on all the same.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Waits for Ctrl-C, or for whoever stops processes.
pub async fn interrupted() {
    #[cfg(unix)]
    let stopped = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut stopped) => drop(stopped.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let stopped = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = stopped => {}
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.dirty {
            self.write("\n");
        }
    }
}

/// `answered 01:02  opus  webtransport  loss 0.0 %  jitter 1.2 ms  delay 12 ms  MOS 4.41`.
fn status_line(stats: &CallStats, audio: &AudioStats) -> String {
    let mut parts = vec![match (stats.state, stats.held) {
        (State::Proceeding, _) => "calling".to_owned(),
        (State::Alerting, _) => "ringing".to_owned(),
        (State::Answered, false) => format!("answered {}", clock(stats.talking.unwrap_or_default())),
        (State::Answered, true) => format!("on hold {}", clock(stats.talking.unwrap_or_default())),
        (State::Ended, _) => "ended".to_owned(),
    }];
    if stats.state == State::Answered {
        if let Some(codec) = audio.hears.or(audio.sends) {
            parts.push(codec.name().to_owned());
        }
        parts.push(stats.path.map_or("no media", |path| path.as_str()).to_owned());
        if let Some(mos) = stats.media.mos {
            parts.push(format!("loss {:.1} %", loss(stats) * 100.0));
            parts.push(format!("jitter {:.1} ms", stats.media.jitter_ms));
            parts.push(format!("delay {:.0} ms", stats.media.delay_ms));
            parts.push(format!("MOS {mos:.2}"));
        }
    }
    parts.join("  ")
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// The share of what should have come that did not, 0 to 1.
fn loss(stats: &CallStats) -> f64 {
    stats.media.lost as f64 / (stats.media.received + stats.media.lost).max(1) as f64
}

/// How a call fares, for programs.
pub fn status_json(call: &str, stats: &CallStats, audio: &AudioStats) -> Value {
    let media = &stats.media;
    json!({
        "event": "client-stats", "call": call, "state": stats.state, "held": stats.held,
        "talking-ms": stats.talking.map(millis),
        "path": stats.path.map(|path| path.as_str()),
        "sends": audio.sends.map(|codec| codec.name()), "hears": audio.hears.map(|codec| codec.name()),
        "sent": media.sent, "acknowledged": media.acknowledged, "lost-out": media.lost_out,
        "received": media.received, "lost": media.lost, "late": media.late, "loss": loss(stats),
        "played": audio.played, "concealed": audio.concealed, "unsent": audio.unsent,
        "playout-ms": millis(audio.playout), "jitter-ms": media.jitter_ms, "delay-ms": media.delay_ms,
        "rtt-ms": media.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0), "mos": media.mos,
        "gaps": stats.gaps.iter().map(gap_json).collect::<Vec<_>>(),
        "connections": stats.connections,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn gap_json(gap: &MediaGap) -> Value {
    json!({
        "since-ms": millis(gap.since), "heard-ms": gap.heard.map(millis),
        "unacknowledged-ms": gap.unacknowledged.map(millis), "repaired-ms": millis(gap.repaired),
    })
}

/// An event for programs: the server's as they are, with `at-ms`; ours begin with `client-`.
fn to_json(call: &str, happened: &Happened) -> Value {
    let mut object = match &happened.event {
        CallEvent::Server(event) => event.to_json(""),
        CallEvent::Dtmf { digit, duration_ms } => {
            json!({"event": "client-dtmf", "digit": digit, "duration": duration_ms})
        }
        CallEvent::Connection(up) => json!({"event": "client-connection", "up": up}),
        CallEvent::Forward(mode) => {
            json!({"event": "client-forward", "finite": *mode == ForwardMode::Finite})
        }
        CallEvent::Media { path, why } => json!({"event": "client-media", "path": path.as_str(), "why": why}),
        CallEvent::MediaLost { why } => json!({"event": "client-media-lost", "why": why}),
        CallEvent::MediaGap(gap) => {
            let mut object = gap_json(gap);
            object["event"] = "client-media-gap".into();
            object
        }
        CallEvent::Ended(end) => {
            json!({"event": "client-ended", "outcome": end.outcome, "by": end.by, "reason": end.reason})
        }
    };
    object["at-ms"] = millis(happened.at).into();
    object["call"] = call.into();
    object
}

/// An event for people, if it is worth a line.
fn line(event: &CallEvent) -> Option<String> {
    Some(match event {
        CallEvent::Server(event) => match &event.body {
            Body::Alerting => "it rings".into(),
            Body::Progress => "early media".into(),
            Body::Answered if event.snapshot.is_none() => "answered".into(),
            Body::Hold { .. } => "on hold".into(),
            Body::Resume { .. } => "resumed".into(),
            Body::Transferring => "the other side is being handed on".into(),
            Body::Moved { to } => format!("the other side is now {to}"),
            Body::HandlerChanged => "another device carries the call now".into(),
            Body::Migrate { .. } => "the server asks us to move".into(),
            Body::Error { code, detail, .. } => {
                format!("refused: {code} {}", detail.as_deref().unwrap_or_default())
            }
            _ => return None,
        },
        CallEvent::Dtmf { digit, .. } => format!("key {digit}"),
        CallEvent::Connection(false) => "the connection was lost; connecting again".into(),
        CallEvent::Connection(true) => return None,
        CallEvent::Forward(ForwardMode::Finite) => {
            "something on the way holds requests back: one for each event".into()
        }
        CallEvent::Forward(ForwardMode::Open) => return None,
        CallEvent::Media { path, why: None } => format!("media over {}", path.as_str()),
        CallEvent::Media { path, why: Some(why) } => format!("media over {}: {why}", path.as_str()),
        CallEvent::MediaLost { why } => format!("media lost: {why}"),
        CallEvent::MediaGap(gap) => match (gap.heard, gap.unacknowledged) {
            (Some(heard), _) => format!("media is back after {} ms", heard.as_millis()),
            (None, Some(gap)) => format!("media is back; {} ms of ours were lost", gap.as_millis()),
            (None, None) => return None,
        },
        CallEvent::Ended(end) => {
            let by = serde_json::to_value(end.by).ok()?;
            format!("{} by the {} ({})", end.outcome.as_str(), by.as_str().unwrap_or("server"), end.reason)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::audio::AudioCodec;
    use crate::client::{MediaPath, MediaStats};

    fn stats(state: State) -> CallStats {
        CallStats {
            state,
            held: false,
            talking: Some(Duration::from_secs(62)),
            path: Some(MediaPath::WebTransport),
            media: MediaStats {
                received: 99,
                lost: 1,
                jitter_ms: 1.23,
                delay_ms: 12.4,
                mos: Some(4.405),
                ..MediaStats::default()
            },
            gaps: vec![],
            connections: Some(1),
        }
    }

    #[test]
    fn the_status_line_says_all_at_a_glance() {
        let audio = AudioStats { hears: Some(AudioCodec::Opus), ..AudioStats::default() };
        assert_eq!(
            status_line(&stats(State::Answered), &audio),
            "answered 01:02  opus  webtransport  loss 1.0 %  jitter 1.2 ms  delay 12 ms  MOS 4.41"
        );
        assert_eq!(status_line(&stats(State::Alerting), &audio), "ringing");
        let mut without = stats(State::Answered);
        (without.path, without.media.mos, without.held) = (None, None, true);
        assert_eq!(status_line(&without, &AudioStats::default()), "on hold 01:02  no media");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }

    #[test]
    fn the_status_for_programs_has_numbers_and_no_text_to_parse() {
        let json = status_json("/c", &stats(State::Answered), &AudioStats::default());
        assert_eq!(
            (&json["loss"], &json["path"], &json["talking-ms"]),
            (&0.01.into(), &"webtransport".into(), &62_000.into())
        );
    }

    #[test]
    fn a_gap_is_told_in_milliseconds() {
        let gap = MediaGap {
            since: Duration::ZERO,
            heard: Some(Duration::from_millis(640)),
            unacknowledged: None,
            repaired: Duration::from_millis(90),
        };
        assert_eq!(line(&CallEvent::MediaGap(gap)).unwrap(), "media is back after 640 ms");
    }
}
