//! L3: the way in and out: QUIC, HTTP/3, WebTransport, TCP, TLS.
