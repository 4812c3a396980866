//! `ript`: calls as a web application. Signalling, media negotiation and media travel over HTTP/3 and QUIC
//! datagrams, after the RIPT drafts (Rosenberg, Jennings et al., 2020).
//!
//! # Layers
//!
//! A module imports only from layers below its own; `tests/layers.rs` reads the paths and holds it to that.
//!
//! | layer | modules | what they may do |
//! |---|---|---|
//! | L0 | [`protocol`] | the wire as plain data: no IO, no clock, nothing of the crate |
//! | L1 | [`call`] [`media`] [`identity`] | pure logic: `now` is an argument, output is returned |
//! | L2 | [`store`] [`service`] | what runs: tokio, but no HTTP and no QUIC |
//! | L3 | [`transport`] [`resource`] | the way in: QUIC, HTTP, WebTransport, the resources |
//! | L4 | [`adapter`] | other APIs in front of the same services: L0 to L2, never L3's insides |
//! | L5 | [`client`] [`trunk`] [`openapi`] [`config`] [`telemetry`] [`cli`] | the edges: the thick client, this server as another's client, the program |
//!
//! [`clock`] is the one real clock; L2 and above read it.
//!
//! # Where to look
//!
//! | for | look in |
//! |---|---|
//! | what a chunk, an event, an advertisement looks like | [`protocol`] |
//! | what a call may do, and when | [`call`]: `ring` (set-up), `control` (in a call), `timer` |
//! | which code and status a refusal has | [`protocol::problem`] |
//! | the list of routes | [`resource`] |
//! | the task that owns a call | [`service::actor`] |
//! | the way of a media chunk through the server | [`service::ports`], then [`media::relay`] |
//! | WebTransport on h3 | [`transport`] |
//! | which thread moves packets | `transport::plane` |
//! | whose tokens are taken, and where their keys come from | [`identity::token`], [`service::keys`] |
//! | who may speak for a number | [`identity::certificate`]; how one gets there: [`identity::enrol`] |
//! | logging in | `client::login` |
//! | how a call leaves for another server | [`service::gateway`], then [`trunk`]; for another operator's CAMARA APIs [`adapter::operator`] |
//! | CAMARA's APIs | [`adapter::camara`]; its statuses beside RIPT's events and SIP's codes: [`adapter::mapping`] |
//! | a browser's media | [`adapter::webrtc`] |
//! | telephones: trunks and accounts | [`adapter::ims`], over SIP and RTP in [`adapter::sip`] |
//! | all operations of all APIs, as a document | [`openapi`] |
//! | how fast, and who did what | [`service::rate`], [`service::audit`] |
//! | placing a call from a program | [`client`] |
//!
//! # The way of a call
//!
//! `POST …/calls` reaches `resource::calls`, which asks [`service::Service::place`]. That checks token, PASSporT,
//! TG and codecs, finds the callee's devices in the registry, makes a [`call::Call`], writes it down, and starts
//! its owner. The owner taps the callee's push channels, and feeds the machine each event that comes in on a
//! byway; what the machine says goes to byways, push channels and media ports. A chunk never meets the owner: it
//! goes from port to port on the task that read its datagram.

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

pub mod adapter;

pub mod cli;
pub mod client;
pub mod config;
pub mod openapi;
pub mod telemetry;
pub mod trunk;
