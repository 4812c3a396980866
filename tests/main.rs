//! Everything that is tested from outside, in one program; one behaviour a file.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests may fail loudly"
)]

mod audit;
mod authorization;
mod bad_input;
mod calls;
mod camara_browsers;
mod camara_byon;
mod camara_byon_calls;
mod camara_calls;
mod camara_calls_bodies;
mod camara_calls_refused;
mod camara_channels;
mod camara_documented;
mod camara_events;
mod camara_events_refusals;
mod camara_refusals;
mod camara_registration;
mod certs;
mod client_calls;
mod client_loss;
mod client_survives;
mod common;
mod div;
mod ended_calls;
mod forward_events;
mod handlers;
mod json_twin;
mod layers;
mod limits;
mod login;
mod login_kept;
mod media_byways;
mod media_crash;
mod media_dtmf;
mod media_load;
mod media_many_sessions;
mod media_quality;
mod media_relay;
mod media_session;
mod media_streams;
mod oauth;
mod openapi;
mod openapi_answers;
mod operator;
mod operator_account;
mod origins;
mod placing;
mod push;
mod reverse_events;
mod rtp_leg;
mod serve_check;
mod sip_account;
mod sip_agents;
mod sip_check;
mod sip_digest;
mod sip_emergency;
mod sip_fuzz;
mod sip_identity;
mod sip_names;
mod sip_phone;
mod sip_redirect;
mod sip_replaces;
mod sip_restart;
mod sip_shared;
mod sip_streams;
mod sip_tls;
mod sip_torture;
mod sip_transfer;
mod sip_trunk;
mod taking;
mod tg_rules;
mod tgs;
mod torture;
mod trunk_calls;
mod trunk_customers;
mod trunk_join;
mod vectors_advertisement;
mod vectors_chunk;
mod versions;
mod webrtc_hostile;
mod x5u;
