//! Source text as the checks need it: without comments, strings and test code; and the paths
//! that code names.

use std::path::Path;

/// A file of the tree. `code` and `product` have the same lines as `text`.
pub struct Source {
    /// From the root of the tree, with forward slashes.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Without comments and the insides of strings and characters.
    pub code: String,
    /// `code` without items under `#[cfg(test)]`.
    pub product: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { strip(text) } else { String::new() };
        let product = without_tests(&code);
        Self { path: path.to_owned(), text: text.to_owned(), code, product }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// `nbd` for `src/nbd/wire.rs` and `src/nbd.rs`; none for what belongs to no layer.
    pub fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let layer = inside.split('/').next()?.trim_end_matches(".rs");
        (!matches!(layer, "lib" | "main")).then_some(layer)
    }

    /// How many `super::` lead from the file's module to the root of the crate.
    pub fn depth(&self) -> usize {
        let parts = self.path.trim_start_matches("src/").trim_end_matches(".rs").split('/');
        parts.filter(|part| *part != "mod").count()
    }
}

/// Every text file of the tree, without what is built or generated.
pub fn tree(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    walk(root, root, &mut files);
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "this is not the tree");
    files
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<Source>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if matches!(&*name, ".git" | "target" | "corpus" | "artifacts" | "coverage") || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            files.push(Source::new(&relative, &text));
        }
    }
}

/// Blanks comments and the insides of literals, keeping every line break.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_word = out.chars().next_back().is_some_and(is_word);
        let len = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, 1),
            '\'' => character(rest),
            'r' | 'b' | 'c' if !after_word => literal_with_prefix(rest),
            _ => 0,
        };
        if len == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[len..];
        }
    }
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of a literal that begins with `start` bytes up to and with its quote.
fn quoted(text: &str, start: usize) -> usize {
    let mut escaped = false;
    for (at, c) in text[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return start + at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[3.min(text.len())..].find('\'').map_or(0, |at| at + 4),
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'…'`; 0 if it is none.
fn literal_with_prefix(text: &str) -> usize {
    let letters = text.len() - text.trim_start_matches(['r', 'b', 'c']).len();
    let after = &text[letters..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    if letters > 2 || !after[hashes..].starts_with('"') {
        let byte = if text.starts_with("b'") { character(&text[1..]) } else { 0 };
        return if byte == 0 { 0 } else { byte + 1 };
    }
    let start = letters + hashes + 1;
    if !text[..letters].contains('r') {
        return if hashes == 0 { quoted(text, start) } else { 0 };
    }
    let end = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// Blanks each item that follows `#[cfg(test)]`, up to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(start) = out.find(MARK) {
        let mut depth = 0usize;
        let mut end = out.len();
        for (at, c) in out[start + MARK.len()..].char_indices() {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = start + MARK.len() + at + 1;
                break;
            }
        }
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands by itself, as (line, text from there on).
pub fn occurrences<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    text.match_indices(word).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let first = word.chars().next().is_some_and(is_word);
        let last = word.chars().next_back().is_some_and(is_word);
        let inside = first && before.is_some_and(is_word) || last && after.is_some_and(is_word);
        (!inside).then(|| (1 + text[..at].matches('\n').count(), &text[at..]))
    })
}

/// Every path that code names under `root` (`crate`, `std`): groups taken apart, as
/// (line, segments after the root).
pub fn paths(code: &str, root: &str) -> Vec<(usize, Vec<String>)> {
    let prefix = format!("{root}::");
    let mut found = Vec::new();
    for (line, text) in occurrences(code, &prefix) {
        expand(&mut &text[prefix.len()..], &mut Vec::new(), line, &mut found);
    }
    found
}

fn expand(rest: &mut &str, path: &mut Vec<String>, line: usize, found: &mut Vec<(usize, Vec<String>)>) {
    let depth = path.len();
    loop {
        *rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            *rest = inside;
            while !rest.trim_start().starts_with('}') && !rest.trim_start().is_empty() {
                let before = rest.len();
                expand(rest, path, line, found);
                // What is no path (a renaming, a star) is passed over up to the next item.
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                *rest = &rest[end..];
                *rest = rest.strip_prefix(',').unwrap_or(rest);
                if rest.len() == before {
                    break;
                }
            }
            *rest = rest.trim_start().strip_prefix('}').unwrap_or("");
            break;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end > 0 {
            path.push(rest[..end].to_owned());
        }
        *rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(next) if end > 0 => *rest = next,
            _ => {
                found.push((line, path.clone()));
                break;
            }
        }
    }
    path.truncate(depth);
}
