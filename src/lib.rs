//! `ript`: calls as a web application, on HTTP/3 and QUIC datagrams.

#![doc(html_no_source)]

pub mod clock;
pub mod protocol;

pub mod call;
pub mod identity;
pub mod media;

pub mod service;
pub mod store;

pub mod resource;
pub mod transport;

pub mod cli;
pub mod client;
pub mod config;
pub mod telemetry;
