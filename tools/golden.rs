//! Makes the golden arrays that `tests/golden_arrays.rs` opens, anew.
//!
//! ```text
//! cargo run --example golden            all of them
//! cargo run --example golden -- rotten  those whose name contains a word
//! ```
//!
//! **Only as long as nothing was released.** An array in the tree stands for the arrays that people have:
//! from the first release on a file is never made again, however the code that writes changes. A newer
//! format adds files beside the old ones, under other names; both must open.
//!
//! Until then: when the format changed, make them all again and say so in the commit. The machine is
//! simulated, so what comes out depends on nothing but the code; a file that differs without a change of
//! the format differs because other operations were done, and can stay as it was. The files are text:
//! look at the difference.

#![allow(clippy::unwrap_used, reason = "a tool for developers")]

#[path = "../tests/golden_arrays/mod.rs"]
mod arrays;

use arrays::{Golden, all};
use std::fs;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    fs::create_dir_all(Golden::folder()).unwrap();
    for (name, make) in all() {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word)) {
            continue;
        }
        let text = make().text();
        fs::write(Golden::folder().join(format!("{name}.txt")), &text).unwrap();
        println!("{name}: {} bytes", text.len());
    }
}
