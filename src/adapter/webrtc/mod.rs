//! The WebRTC leg: ICE-lite on one UDP port for all sessions, DTLS-SRTP, and packets as RIPT's chunks.
