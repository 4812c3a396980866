//! Audio files, codecs and measures.
