//! webrtc-call-handling.yaml: the routes, and how their parameters and bodies are read.
