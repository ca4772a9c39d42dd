//! palisade: software RAID in user space.
//!
//! A volume is striped with Reed-Solomon parity (`k` data + `m` parity) across image files or
//! devices, served over NBD, and goes on serving while up to `m` members are lost and rebuilt.
//!
//! Each folder is a layer; a layer imports only the layers listed above it here. The `mod.rs` of
//! a layer says what it owns, what callers may rely on and what it must never do: reading only
//! those is the quickest way to know the system.

pub mod error;
pub mod units;

pub mod mutation;

pub mod env;

pub mod observe;

pub mod codec;

pub mod geometry;

pub mod format;

pub mod member;

pub mod integrity;

pub mod journal;

pub mod epoch;

pub mod stripe;

pub mod array;

pub mod task;

pub mod export;

pub mod nbd;

pub mod control;

pub mod daemon;

pub mod cli;
