//! One file per command: ask `daemon` or `control`, hand the answer to `render`, say how it ended.
//!
//! Owns: what each command does and in which order.
//! Callers may rely on: arguments were checked by `resolve`; errors are returned, not printed,
//! except where a command goes on after one (`start --all`, `examine`).
//! Must never: lay out text beyond a line; that is `render`'s.

mod add;
mod answer;
mod completions;
mod create;
mod examine;
mod fail;
mod list;
mod rebuild;
mod remove;
mod replace;
mod scrub;
mod start;
mod status;
mod stop;

pub use add::add;
pub use completions::completions;
pub use create::create;
pub use examine::examine;
pub use fail::fail;
pub use list::list;
pub use rebuild::rebuild;
pub use remove::remove;
pub use replace::replace;
pub use scrub::scrub;
pub use start::start;
pub use status::status;
pub use stop::stop;
