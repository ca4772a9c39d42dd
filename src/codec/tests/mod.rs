//! The codec's claims, each held against `reed-solomon-erasure` or the reference engine.

mod engines;
mod losses;
mod oracle;
mod pinned;
mod requests;
mod support;
