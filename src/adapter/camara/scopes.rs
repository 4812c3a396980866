//! Everything that a token may be asked for here.

/// The scopes that the APIs' files name.
pub const SCOPES: [&str; 14] = [
    "webrtc-registration:sessions:read",
    "webrtc-registration:sessions:create",
    "webrtc-registration:sessions:write",
    "webrtc-registration:sessions:delete",
    "webrtc-call-handling:sessions:create",
    "webrtc-call-handling:sessions:read",
    "webrtc-call-handling:sessions:write",
    "webrtc-call-handling:sessions:delete",
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create",
    "webrtc-events:read",
    "webrtc-events:update",
    "webrtc-events:delete",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_channels_ask_for_is_among_them() {
        assert!(super::super::channels::SCOPES.iter().all(|scope| SCOPES.contains(scope)));
    }
}
