//! The file of a golden array, as text: what the array is, what is to be found in it, and every byte
//! of its members that is not zero.
//!
//! ```text
//!   what a sentence
//!   shape 2 1 4096                  k, m, chunk in bytes
//!   uuid ...
//!   volume 8388608                  in bytes
//!   starts degraded                 or: refused WORDS OF THE ERROR
//!   row 1 d1 missing                one for each row of its status: slot, file, state
//!   filled                          if it is recorded how far a replacement is filled
//!   damaged                         if a scrub finds something
//!   holds 0 16 1|2                  sectors 0 to 15 of the volume are of version 1 or 2
//!   member d0 22085632              a file and its size in bytes; its content follows
//!   4096 50414c49 @96 512*01234567  a page: these bytes, zeroes up to byte 96, a word so many times
//!   12288 = d0 4096                 a page, the same as that one
//! ```

use super::content::Content;
use palisade::units::ArrayId;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;

/// What starting it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It starts, in this state, with these rows.
    Starts { state: String, rows: Vec<String> },
    /// It is refused, in these words.
    Refused(String),
}

/// The bytes of a member that are not zero, by page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub name: String,
    pub size_bytes: u64,
    pub pages: BTreeMap<u64, Vec<u8>>,
}

/// An array in some state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    pub what: String,
    pub shape: (u8, u8, u64),
    pub uuid: ArrayId,
    pub outcome: Outcome,
    /// It is recorded how far a replacement is filled.
    pub filled: bool,
    /// A scrub finds something.
    pub damaged: bool,
    pub content: Content,
    pub members: Vec<Image>,
}

impl Image {
    /// `len` bytes, zeroes where nothing was written.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let first = offset / PAGE as u64 * PAGE as u64;
        let skip = usize::try_from(offset - first).unwrap();
        let pages = (first..).step_by(PAGE).take((skip + len).div_ceil(PAGE));
        let bytes = pages.flat_map(|at| self.pages.get(&at).cloned().unwrap_or_else(|| vec![0; PAGE]));
        bytes.skip(skip).take(len).collect()
    }

    /// Makes the file.
    pub fn unpack(&self, folder: &Path) {
        let file = File::create(folder.join(&self.name)).unwrap();
        file.set_len(self.size_bytes).unwrap();
        for (at, page) in &self.pages {
            file.write_all_at(page, *at).unwrap();
        }
    }
}

impl Golden {
    /// Where the files are.
    pub fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/arrays")
    }

    pub fn text(&self) -> String {
        let mut text = format!("what {}\n", self.what);
        let (k, m, chunk) = self.shape;
        let volume = self.content.volume_bytes();
        writeln!(text, "shape {k} {m} {chunk}\nuuid {}\nvolume {volume}", self.uuid).unwrap();
        match &self.outcome {
            Outcome::Refused(words) => writeln!(text, "refused {words}").unwrap(),
            Outcome::Starts { state, rows } => {
                writeln!(text, "starts {state}").unwrap();
                rows.iter().for_each(|row| writeln!(text, "row {row}").unwrap());
            }
        }
        if self.filled {
            text.push_str("filled\n");
        }
        if self.damaged {
            text.push_str("damaged\n");
        }
        self.content.lines().iter().for_each(|line| writeln!(text, "{line}").unwrap());
        let mut seen: HashMap<&[u8], (&str, u64)> = HashMap::new();
        for member in &self.members {
            writeln!(text, "member {} {}", member.name, member.size_bytes).unwrap();
            for (at, page) in &member.pages {
                match seen.get(page.as_slice()) {
                    // A page of one word is shorter as it is.
                    Some((name, from)) if words(page).len() > 1 => {
                        writeln!(text, "{at} = {name} {from}").unwrap();
                    }
                    _ => writeln!(text, "{at} {}", words(page).join(" ")).unwrap(),
                }
                seen.entry(page).or_insert((&member.name, *at));
            }
        }
        text
    }

    pub fn parse(text: &str) -> Self {
        let mut golden = Self {
            what: String::new(),
            shape: (0, 0, 0),
            uuid: ArrayId::NIL,
            outcome: Outcome::Refused(String::new()),
            filled: false,
            damaged: false,
            content: Content::zeroes(0),
            members: Vec::new(),
        };
        for line in text.lines() {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "what" => golden.what = rest.to_owned(),
                "shape" => {
                    let n: Vec<u64> = rest.split(' ').map(|n| n.parse().unwrap()).collect();
                    golden.shape = (n[0].try_into().unwrap(), n[1].try_into().unwrap(), n[2]);
                }
                "uuid" => golden.uuid = rest.parse().unwrap(),
                "volume" => golden.content = Content::zeroes(rest.parse().unwrap()),
                "starts" => {
                    golden.outcome = Outcome::Starts { state: rest.to_owned(), rows: Vec::new() };
                }
                "refused" => golden.outcome = Outcome::Refused(rest.to_owned()),
                "row" => match &mut golden.outcome {
                    Outcome::Starts { rows, .. } => rows.push(rest.to_owned()),
                    Outcome::Refused(_) => panic!("{line}"),
                },
                "filled" => golden.filled = true,
                "damaged" => golden.damaged = true,
                "holds" => golden.content.take(rest),
                "member" => {
                    let (name, size) = rest.split_once(' ').unwrap();
                    let (name, size_bytes) = (name.to_owned(), size.parse().unwrap());
                    golden.members.push(Image { name, size_bytes, pages: BTreeMap::new() });
                }
                offset => golden.take_page(offset.parse().expect(line), rest),
            }
        }
        golden
    }

    fn take_page(&mut self, at: u64, what: &str) {
        let page = match what.strip_prefix("= ").and_then(|other| other.split_once(' ')) {
            None => page(what),
            Some((name, from)) => {
                let member = self.members.iter().find(|m| m.name == name).unwrap();
                member.read(from.parse().unwrap(), PAGE)
            }
        };
        self.members.last_mut().expect("a member before its pages").pages.insert(at, page);
    }
}

/// A page as words of text, its zeroes left out.
fn words(page: &[u8]) -> Vec<String> {
    let eights: Vec<&[u8]> = page.chunks(8).collect();
    let mut texts: Vec<String> = Vec::new();
    let (mut at, mut written, mut continues) = (0, 0, false);
    for run in eights.chunk_by(|a, b| a == b) {
        let len = 8 * run.len();
        let is_zero = run[0].iter().all(|b| *b == 0);
        if !is_zero {
            if written != at {
                texts.push(format!("@{at}"));
            }
            match texts.last_mut() {
                _ if run.len() >= 4 => texts.push(format!("{}*{}", run.len(), hex(run[0]))),
                Some(text) if continues => text.push_str(&hex(&run.concat())),
                _ => texts.push(hex(&run.concat())),
            }
            written = at + len;
        }
        continues = !is_zero && run.len() < 4;
        at += len;
    }
    texts
}

/// The page that these words stand for.
fn page(words: &str) -> Vec<u8> {
    let mut page = Vec::new();
    for word in words.split(' ') {
        if let Some(at) = word.strip_prefix('@') {
            page.resize(at.parse().unwrap(), 0);
        } else if let Some((count, word)) = word.split_once('*') {
            page.extend(from_hex(word).repeat(count.parse().unwrap()));
        } else {
            page.extend(from_hex(word));
        }
    }
    page.resize(PAGE, 0);
    page
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(text.get(at..at + 2).expect("two digits a byte"), 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}
