//! The RTP leg: descriptions, packets, and packets as RIPT's chunks.
