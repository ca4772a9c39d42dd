//! One backing device of an array.
//!
//! Owns: the backend trait, its implementations (file or device; simulated), and the member
//! handle that wraps a backend with deadlines and counters.
//! Callers may rely on: a backend never answers success for bytes it did not move; every call
//! ends within its deadline when made through a `Member`.
//! Must never: know about slots, stripes or parity.

mod backend;
mod file;
mod file_align;
mod file_in_use;
mod file_open;
#[allow(clippy::module_inception, reason = "the layer's central type has the layer's name")]
mod member;
pub mod signature;
pub mod sim;

pub use backend::{Backend, Opener, Persistence, Presence, Span};
pub use file::FileBackend;
pub use file_in_use::is_mounted;
pub use file_open::{FileOpener, Identity, OpenOptions, create_image, identity};
pub use member::Member;
pub use sim::{SimBackend, SimDisk, SimDisks, SimOpener};
