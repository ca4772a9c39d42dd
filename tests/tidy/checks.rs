//! The rules of the house. Each check takes files and returns complaints.

use super::source::{Source, occurrences, paths};

/// Longest file.
const MAX_LINES: usize = 600;
/// What the layers between members and front ends may use of `export`, which lies above them.
const VOLUME_ITEMS: [&str; 6] = ["volume", "Volume", "VolumeInfo", "Durability", "Extent", "ZeroOptions"];
/// Who may.
const VOLUME_USERS: [&str; 3] = ["stripe", "array", "task"];
/// A front end sees a volume, never what is behind it.
const FRONT_ENDS: [&str; 1] = ["nbd"];
const BEHIND_A_VOLUME: [&str; 7] = ["codec", "geometry", "format", "member", "stripe", "array", "task"];
/// Layers that take time, threads, files and chance only from their environment.
const ENGINE: [&str; 12] = [
    "units", "env", "observe", "codec", "geometry", "format", "member", "stripe", "array", "task", "export",
    "nbd",
];
/// Where the engine meets the operating system.
const REAL: [&str; 2] = ["src/env/real", "src/member/file"];
const BANNED_STD: [&[&str]; 5] =
    [&["time", "Instant"], &["time", "SystemTime"], &["thread"], &["fs"], &["net"]];
const BANNED_CRATES: [&str; 3] = ["rand", "getrandom", "tokio"];
const UNSAFE_ALLOWED: [&str; 3] = ["src/env/real/", "src/codec/engine/", "src/member/file"];

/// The layers from the lowest up, as `src/lib.rs` lists them.
pub fn layers(files: &[Source]) -> Vec<String> {
    let root = files.iter().find(|file| file.path == "src/lib.rs").expect("src/lib.rs");
    let lines = root.code.lines().filter_map(|l| l.trim().strip_prefix("pub mod ")?.strip_suffix(';'));
    lines.map(str::to_owned).collect()
}

/// A layer imports only the layers below it.
pub fn upward_imports(files: &[Source]) -> Vec<String> {
    let order = layers(files);
    let rank = |layer: &str| order.iter().position(|known| known == layer);
    let mut complaints = Vec::new();
    for file in product(files) {
        let Some(layer) = file.layer() else { continue };
        let Some(own) = rank(layer) else {
            complaints.push(format!("{}: {layer} is no layer of src/lib.rs", file.path));
            continue;
        };
        let to_root = "super::".repeat(file.depth());
        let climbing = paths(&file.product, to_root.trim_end_matches("::"));
        for (line, path) in paths(&file.product, "crate").into_iter().chain(climbing) {
            let Some(other) = path.first() else { continue };
            let volume = other == "export" && path.get(1).is_some_and(|i| VOLUME_ITEMS.contains(&&**i));
            // An error names the slot it is about: the two lowest layers know each other.
            let foundation = layer == "error" && other == "units";
            let excused = foundation || volume && VOLUME_USERS.contains(&layer);
            if rank(other).is_some_and(|other| other > own) && !excused {
                complaints.push(format!("{}:{line}: {layer} imports {}", file.path, path.join("::")));
            }
            if FRONT_ENDS.contains(&layer) && BEHIND_A_VOLUME.contains(&&**other) {
                complaints
                    .push(format!("{}:{line}: {layer} looks behind the volume into {other}", file.path));
            }
        }
    }
    complaints
}

/// Nothing grows without end.
pub fn long_files(files: &[Source]) -> Vec<String> {
    let long = files.iter().filter(|file| file.is_rust() && file.text.lines().count() > MAX_LINES);
    long.map(|file| format!("{}: {} lines", file.path, file.text.lines().count())).collect()
}

/// The engine asks its environment, not the operating system.
pub fn banned_calls(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in product(files) {
        let engine = file.layer().is_some_and(|layer| ENGINE.contains(&layer));
        if !engine || REAL.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for (line, path) in paths(&file.product, "std") {
            let banned = BANNED_STD.iter().any(|ban| {
                // `use std::time;` hides what is taken from it.
                let whole = path.len() == 1 && path[0] == ban[0];
                whole || path.iter().zip(*ban).filter(|(a, b)| a == *b).count() == ban.len()
            });
            if banned || path.as_slice() == ["time"] {
                complaints.push(format!("{}:{line}: std::{}", file.path, path.join("::")));
            }
        }
        for name in BANNED_CRATES {
            let used = [format!("{name}::"), format!("use {name};")];
            for (line, _) in used.iter().flat_map(|word| occurrences(&file.product, word)) {
                complaints.push(format!("{}:{line}: {name}", file.path));
            }
        }
    }
    complaints
}

/// What is left for later is written down elsewhere, or done.
pub fn leftovers(files: &[Source]) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let macros = [concat!("to", "do!"), concat!("unimple", "mented!")];
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let in_text = words.iter().flat_map(|word| occurrences(&file.text, word));
        let in_code = macros.iter().flat_map(|word| occurrences(&file.code, word));
        for (line, rest) in in_text.chain(in_code) {
            let line_text = rest.lines().next().unwrap_or_default();
            complaints.push(format!("{}:{line}: {line_text}", file.path));
        }
    }
    complaints
}

/// A file that no `mod` declares is not compiled: it only looks as if it were there.
pub fn dead_files(files: &[Source]) -> Vec<String> {
    let dead = files.iter().filter(|file| is_module(file) && !declared(files, file, |parent| &parent.code));
    dead.map(|file| format!("{}: no mod declares it", file.path)).collect()
}

/// `unsafe` stays where it is expected and reviewed.
pub fn misplaced_unsafe(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/") && file.is_rust()) {
        if !UNSAFE_ALLOWED.iter().any(|place| file.path.starts_with(place)) {
            let lines = occurrences(&file.code, "unsafe");
            complaints.extend(lines.map(|(line, _)| format!("{}:{line}: unsafe", file.path)));
        }
    }
    complaints
}

/// Nothing refers to the machine it was written on.
pub fn machine_paths(files: &[Source]) -> Vec<String> {
    let roots = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    let mut complaints = Vec::new();
    for file in files {
        for root in roots {
            for (at, _) in file.text.match_indices(root) {
                let before = file.text[..at].chars().next_back();
                // `network/work/x` is a relative path, `$HOME/work/` one of the reader's.
                if !before.is_some_and(|c| c.is_alphanumeric() || "_-.}/".contains(c)) {
                    let line = 1 + file.text[..at].matches('\n').count();
                    complaints.push(format!("{}:{line}: {root}", file.path));
                }
            }
        }
    }
    complaints
}

/// Files of the library that are not there for tests only.
fn product(files: &[Source]) -> impl Iterator<Item = &Source> {
    files.iter().filter(|file| file.path.starts_with("src/") && file.is_rust() && !test_only(files, file))
}

/// Whether only test code declares this file, or the module it lies in.
fn test_only(files: &[Source], file: &Source) -> bool {
    let own = declared(files, file, |p| &p.code) && !declared(files, file, |p| &p.product);
    let folder = file.path.trim_end_matches("/mod.rs").rsplit_once('/').map_or("", |(folder, _)| folder);
    let parents = [format!("{folder}/mod.rs"), format!("{folder}.rs")];
    let parent = files.iter().find(|parent| parents.contains(&parent.path));
    own || parent.is_some_and(|parent| test_only(files, parent))
}

fn is_module(file: &Source) -> bool {
    file.path.starts_with("src/") && file.is_rust() && !matches!(&*file.path, "src/lib.rs" | "src/main.rs")
}

/// Whether the parent module declares this file, in the given view of the parent.
fn declared(files: &[Source], file: &Source, view: fn(&Source) -> &String) -> bool {
    let own = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let Some((folder, name)) = own.rsplit_once('/') else { return false };
    let parents = match folder {
        "src" => vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()],
        _ => vec![format!("{folder}/mod.rs"), format!("{folder}.rs")],
    };
    let declaration = format!("mod {name};");
    files
        .iter()
        .filter(|parent| parents.contains(&parent.path))
        .any(|parent| occurrences(view(parent), &declaration).next().is_some())
}
