//! The 2023 generation: RACM, VVOIP and notification channels.
