//! Push channels: a tap on the shoulder for each device that has one open.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::lock;
use crate::protocol::id::HandlerKey;
use crate::protocol::resource::Tap;

/// Taps that a slow channel may have waiting; beyond that it is closed, and gets them all when it comes back.
const QUEUE: usize = 256;
/// Channels that one user may have open.
const MAX_CHANNELS: usize = 128;

#[derive(Debug)]
struct Channel {
    id: u64,
    handler: Option<HandlerKey>,
    taps: mpsc::Sender<Tap>,
}

/// All push channels.
#[derive(Debug, Default)]
pub struct Push {
    channels: Mutex<(u64, HashMap<String, Vec<Channel>>)>,
}

impl Push {
    /// Opens a channel; none when the user has too many.
    pub fn open(
        &self,
        user: &str,
        handler: Option<HandlerKey>,
    ) -> Option<(mpsc::Sender<Tap>, mpsc::Receiver<Tap>)> {
        let (taps, receiver) = mpsc::channel(QUEUE);
        let mut guard = lock(&self.channels);
        let (next, channels) = &mut *guard;
        let mine = channels.entry(user.to_owned()).or_default();
        mine.retain(|c| !c.taps.is_closed());
        if mine.len() >= MAX_CHANNELS {
            return None;
        }
        *next += 1;
        mine.push(Channel { id: *next, handler, taps: taps.clone() });
        Some((taps, receiver))
    }

    /// Whether a device has a channel open.
    pub fn reaches(&self, user: &str, handler: HandlerKey) -> bool {
        let guard = lock(&self.channels);
        let open = |c: &Channel| c.handler == Some(handler) && !c.taps.is_closed();
        guard.1.get(user).is_some_and(|mine| mine.iter().any(open))
    }

    /// Taps a user's devices, or one of them.
    pub fn tap(&self, user: &str, only: Option<HandlerKey>, tap: &Tap) {
        let mut guard = lock(&self.channels);
        let Some(mine) = guard.1.get_mut(user) else { return };
        mine.retain(|channel| {
            if only.is_some() && channel.handler != only {
                return !channel.taps.is_closed();
            }
            let kept = channel.taps.try_send(tap.clone()).is_ok();
            if !kept {
                tracing::debug!(channel = channel.id, "a push channel is closed or too slow");
            }
            kept
        });
        if mine.is_empty() {
            guard.1.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resource::TapReason;

    fn tap(n: usize) -> Tap {
        Tap { call: n.to_string(), reason: TapReason::Incoming }
    }

    #[test]
    fn a_tap_reaches_the_users_channels_and_no_others() {
        let push = Push::default();
        let (a, b) = (HandlerKey::from_u128(1), HandlerKey::from_u128(2));
        let (_s1, mut first) = push.open("alice", Some(a)).unwrap();
        let (_s2, mut second) = push.open("alice", Some(b)).unwrap();
        let (_s3, mut other) = push.open("bob", Some(a)).unwrap();
        push.tap("alice", None, &tap(1));
        push.tap("alice", Some(b), &tap(2));
        assert_eq!((first.try_recv(), first.try_recv().is_err()), (Ok(tap(1)), true));
        assert_eq!((second.try_recv(), second.try_recv()), (Ok(tap(1)), Ok(tap(2))));
        assert!(other.try_recv().is_err());
        assert!(push.reaches("alice", a) && !push.reaches("bob", b));
    }

    #[test]
    fn a_channel_that_does_not_read_is_closed_and_holds_up_nobody() {
        let push = Push::default();
        let a = HandlerKey::from_u128(1);
        let (sender, slow) = push.open("alice", Some(a)).unwrap();
        drop(sender);
        (0..=QUEUE).for_each(|n| push.tap("alice", None, &tap(n)));
        assert!(!push.reaches("alice", a));
        assert_eq!(slow.len(), QUEUE);
    }

    #[test]
    fn a_user_has_so_many_channels_and_no_more() {
        let push = Push::default();
        let open: Vec<_> = (0..MAX_CHANNELS).map(|_| push.open("alice", None).unwrap()).collect();
        assert!(push.open("alice", None).is_none());
        drop(open);
        assert!(push.open("alice", None).is_some());
    }
}
