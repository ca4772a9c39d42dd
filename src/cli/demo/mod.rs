//! `palisade demo`: a real array made, broken and mended in a temporary folder.
//!
//! Owns: the story (`story`), its folder and daemon (`stage`), the bytes that are written and must
//! be read back (`pattern`), and their way through NBD (`traffic`).
//! Callers may rely on: nothing outside the temporary folder is touched; folder and daemon are
//! gone afterwards unless they are to be kept, also after a failure or Ctrl-C; a byte that differs
//! is an error.
//! Must never: reach the volume in another way than a user would.

mod pattern;
mod stage;
mod story;
mod traffic;

pub use story::demo;
