//! What a session has no room for.

use super::*;
use crate::adapter::webrtc::sdp::Role;

#[tokio::test]
async fn a_chunk_that_a_busy_session_has_no_room_for_is_counted() {
    let port = Arc::new(Port::bind("127.0.0.1:0".parse().unwrap(), &[], Role::Lite).unwrap());
    let (inbox, mut commands) = mpsc::channel(2);
    let path = ChunkPath { inbox, port: port.clone() };
    // The path stays open: it is the session that is late.
    assert!((0..5).all(|_| path.send(&[0])));
    assert_eq!(port.drops().overrun, 3);
    commands.recv().await.unwrap();
    assert!(path.send(&[0]));
    assert_eq!(port.drops().overrun, 3);
    drop(commands);
    assert!(!path.send(&[0]));
    assert_eq!(port.drops().overrun, 3);
}
