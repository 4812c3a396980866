//! What an operator's IMS asks of a SIP user agent: registrations, identities and headers of its own.
