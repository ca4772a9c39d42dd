//! One process per array: where its files are, its configuration, and its life from start to stop.
//!
//! Owns: places, configuration, lock file, wiring of executor, members, array, exports, control
//! socket, signals and orderly stop; creation and examination of members.
//! Callers may rely on: two daemons never run one array; nothing recognisable is overwritten
//! unless forced; every refusal says what to do next.
//! Must never: decide about membership or touch a stripe; it only wires the layers.

mod absent;
mod admin;
mod background;
mod config;
mod config_scrub;
mod config_text;
mod config_threads;
mod create;
mod devices;
mod discard;
mod examine;
mod executor;
mod exports;
mod list;
mod lock;
mod log;
mod log_file;
mod places;
mod ready;
mod run;
mod scrub;

pub use background::{Heard, running_pid, start_background};
pub use config::{Config, ExportConfig};
pub use config_scrub::ScrubConfig;
pub use config_threads::Threads;
pub use create::{CreateArgs, Created, create};
pub use discard::DiscardArgs;
pub use examine::{AreaReport, CopyReport, ExamineReport, SlotReport, examine};
pub use exports::nbd_uri;
pub use list::{Listed, RunState, list};
pub use places::{Places, check_name};
pub use run::{RunOptions, Started, run};
