//! The demo, step by step.

use super::pattern::Pattern;
use super::stage::{NAME, Stage};
use super::traffic::{Direction, Traffic};
use crate::array::{MemberRef, MemberState};
use crate::cli::exit::Exit;
use crate::cli::find::{Found, one};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::{Out, Tone, remark};
use crate::cli::render;
use crate::cli::resolve::Demo;
use crate::cli::wait::{Ended, rebuilt};
use crate::control::Client;
use crate::daemon::{CreateArgs, create, nbd_uri};
use crate::error::{Error, ErrorKind, Result};
use crate::member::create_image;
use crate::units::{BLOCK_BYTES, Slot, format_rate, format_size};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MEMBER_BYTES: u64 = 256 << 20;
/// As much is written and checked, if the volume is so large.
const DATA_BYTES_MAX: u64 = 512 << 20;
/// Blocks of a large request: 1 MiB.
const LARGE: usize = 256;
/// Small writes while degraded.
const SMALL_WRITES: usize = 256;
const STEPS: usize = 8;
const NOTICE_TIME: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Garbage over the front of a member: header, superblocks, and into what follows.
const GARBAGE_BYTES: u64 = 64 << 20;
const GARBAGE_PIECE: u64 = 1 << 20;

/// Tells it; with Ctrl-C it is cut short and cleaned up.
pub fn demo(out: &Out, args: &Demo) -> Result<Exit> {
    let began = Instant::now();
    let interrupt = Interrupt::watch()?;
    let members = u64::from(args.data) + u64::from(args.parity);
    // Parity of what is written, and two members filled anew.
    let needs_bytes = DATA_BYTES_MAX / u64::from(args.data) * members + 3 * MEMBER_BYTES;
    let stage = Stage::set(needs_bytes, args.keep)?;
    let mut story = Story { out, args, interrupt, stage, step: 0, carried_bytes: 0, began: Instant::now() };
    let ended = story.tell();
    match ended {
        Ok(Some(())) => {
            let carried = format_size(story.carried_bytes);
            let seconds = began.elapsed().as_secs_f64();
            let text =
                format!("Done in {seconds:.1} s: {carried} went through NBD and not one byte differed.");
            out.line(&format!("\n{}", out.paint.tone(Tone::Good, &text)))?;
            Ok(Exit::Ok)
        }
        Ok(None) => {
            remark(if args.keep { "\ninterrupted" } else { "\ninterrupted; cleaning up" });
            Ok(Exit::Interrupted)
        }
        Err(e) => Err(e),
    }
}

struct Story<'a> {
    out: &'a Out,
    args: &'a Demo,
    interrupt: Interrupt,
    stage: Stage,
    step: usize,
    carried_bytes: u64,
    began: Instant,
}

/// Ctrl-C is `None`, so that `?` is for errors and `let Some` for the rest.
type Told<T = ()> = Result<Option<T>>;

impl Story<'_> {
    fn tell(&mut self) -> Told {
        let size_bytes = self.make()?;
        let client = self.start()?;
        let traffic = Traffic::new(&self.stage.places.nbd_socket(NAME))?;
        let told = self.break_and_mend(&client, &traffic, size_bytes);
        traffic.end();
        if told?.is_none() {
            return Ok(None);
        }
        if self.stage.is_kept() {
            self.explain("The array goes on running, since it is to be kept.")?;
        } else {
            self.stage.stop()?;
            self.explain("The array is stopped and its files are deleted.")?;
        }
        Ok(Some(()))
    }

    fn break_and_mend(&mut self, client: &Client, traffic: &Traffic, size_bytes: u64) -> Told {
        let data_bytes = DATA_BYTES_MAX.min(size_bytes / 4 * 3);
        let blocks = usize::try_from(data_bytes / BLOCK_BYTES).unwrap_or(usize::MAX) / LARGE * LARGE;
        let mut pattern = Pattern::new(blocks);
        let everything: Vec<_> = (0..blocks).step_by(LARGE).map(|b| b..b + LARGE).collect();
        let check = |story: &mut Self, pattern: &Pattern| {
            story.carry(traffic, Direction::Check, &Arc::new(pattern.clone()), everything.clone())
        };

        self.title("write and read back")?;
        self.explain("Known pseudo-random bytes, through our own NBD client, as any client would.")?;
        everything.iter().for_each(|piece| pattern.advance(piece.clone()));
        let written =
            self.carry(traffic, Direction::Write, &Arc::new(pattern.clone()), everything.clone())?;
        if written.is_none() || check(self, &pattern)?.is_none() {
            return Ok(None);
        }
        let Some(lost) = self.lose(client)? else { return Ok(None) };
        self.status()?;

        self.title("read what is lost")?;
        self.explain("The lost chunks of each stripe are computed from those that are left.")?;
        if check(self, &pattern)?.is_none() {
            return Ok(None);
        }
        self.title("write while degraded")?;
        let pieces = rewritten(blocks);
        self.explain("A quarter of it anew, and scattered 4K blocks; the lost members miss all this.")?;
        pieces.iter().for_each(|piece| pattern.advance(piece.clone()));
        let written = self.carry(traffic, Direction::Write, &Arc::new(pattern.clone()), pieces)?;
        if written.is_none() || check(self, &pattern)?.is_none() {
            return Ok(None);
        }
        if self.replace(client, &lost)?.is_none() {
            return Ok(None);
        }
        self.title("verify and clean up")?;
        if check(self, &pattern)?.is_none() {
            return Ok(None);
        }
        self.status()?;
        Ok(Some(()))
    }

    fn make(&mut self) -> Result<u64> {
        let Demo { data, parity, .. } = *self.args;
        let members = usize::from(data) + usize::from(parity);
        self.title("make an array")?;
        let (each, dir) = (format_size(MEMBER_BYTES), self.stage.dir().display().to_string());
        self.explain(&format!("{members} image files of {each} in {dir} stand in for disks."))?;
        self.explain(&format!(
            "Each stripe has {data} data and {parity} parity chunks: any {parity} disks may be lost."
        ))?;
        let created = create(
            &self.stage.places,
            &CreateArgs {
                name: NAME.to_owned(),
                members: (0..members).map(|i| self.stage.image(i).display().to_string()).collect(),
                spares: Vec::new(),
                journal: Vec::new(),
                data,
                parity,
                chunk_bytes: 64 << 10,
                member_size_bytes: Some(MEMBER_BYTES),
                journal_size_bytes: None,
                size_bytes: None,
                force: false,
            },
        )?;
        Ok(created.size_bytes)
    }

    fn start(&mut self) -> Result<Client> {
        self.title("start it")?;
        let (client, pid) = self.stage.start()?;
        let uri = nbd_uri(NAME, &self.stage.places.nbd_socket(NAME));
        self.explain(&format!("A daemon (pid {pid}) serves the volume over NBD:"))?;
        self.explain(&uri)?;
        Ok(client)
    }

    /// Breaks as many disks as parity allows, but no more than two.
    fn lose(&mut self, client: &Client) -> Told<Vec<Slot>> {
        let members = self.args.data.saturating_add(self.args.parity);
        self.title(if self.args.parity > 1 { "lose two disks" } else { "lose a disk" })?;
        let (deleted, spoiled) = (Slot(1), Slot(3.min(members.saturating_sub(1))));
        let mut lost = Vec::new();
        if self.args.parity > 1 {
            let path = self.stage.image(spoiled.index());
            spoil(&path, GARBAGE_BYTES)?;
            self.explain(&format!("disk{spoiled}.img is overwritten with garbage, header and data."))?;
            lost.push(spoiled);
            if self.noticed(client, &lost, Some(&path))?.is_none() {
                return Ok(None);
            }
        }
        let path = self.stage.image(deleted.index());
        std::fs::remove_file(&path).map_err(|e| Error::io(format!("cannot delete {}", path.display()), e))?;
        self.explain(&format!("disk{deleted}.img is deleted, as if it had been pulled out."))?;
        lost.push(deleted);
        Ok(self.noticed(client, &lost, None)?.map(|()| lost))
    }

    /// Waits until the array itself has found out. The front of the spoiled member is spoiled again
    /// and again: the array may be writing its superblocks just then, as after a first write.
    fn noticed(&self, client: &Client, lost: &[Slot], spoiled: Option<&Path>) -> Told {
        let end = Instant::now() + NOTICE_TIME;
        loop {
            let report = client.report()?;
            let gone = |slot: &Slot| {
                report.members.iter().any(|m| {
                    let state =
                        matches!(m.state, MemberState::Faulty | MemberState::Missing | MemberState::Stale);
                    m.slot == Some(*slot) && state
                })
            };
            if lost.iter().all(gone) {
                return Ok(Some(()));
            }
            if let Some(path) = spoiled {
                spoil(path, GARBAGE_PIECE)?;
            }
            if Instant::now() > end {
                let what = "the array did not notice that members are lost";
                return Err(Error::new(ErrorKind::Timeout, what).array(NAME));
            }
            if self.interrupt.within(LOOK_EVERY) {
                return Ok(None);
            }
        }
    }

    fn replace(&mut self, client: &Client, lost: &[Slot]) -> Told {
        self.title("replace")?;
        self.explain(
            "New files take the places of the lost ones and are filled while the volume is in use.",
        )?;
        let first = usize::from(self.args.data) + usize::from(self.args.parity);
        let mut ids = Vec::new();
        for (slot, number) in lost.iter().zip(first..) {
            let path = self.stage.image(number);
            create_image(&path, MEMBER_BYTES)?;
            self.explain(&format!("palisade replace {NAME} {slot} {}", path.display()))?;
            ids.push(client.replace(&MemberRef::Slot(*slot), &path.display().to_string(), false)?.uuid);
        }
        let ended = rebuilt(client, NAME, &ids, &self.interrupt)?;
        Ok((ended == Ended::Filled).then_some(()))
    }

    fn carry(
        &mut self,
        traffic: &Traffic,
        direction: Direction,
        pattern: &Arc<Pattern>,
        pieces: Vec<Range<usize>>,
    ) -> Told {
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64 * BLOCK_BYTES).sum();
        let began = Instant::now();
        if traffic.carry(direction, pattern, pieces, &self.interrupt)?.is_none() {
            return Ok(None);
        }
        self.carried_bytes += bytes;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = format_rate(bytes.saturating_mul(1000) / took_ms);
        let done = match direction {
            Direction::Write => "written and flushed",
            Direction::Check => "read, every byte as it should be",
        };
        self.explain(&format!("{} {done} ({rate})", format_size(bytes)))?;
        Ok(Some(()))
    }

    fn status(&self) -> Result<()> {
        self.explain(&format!("$ palisade status {NAME}"))?;
        let found: Found = one(&self.stage.places, NAME)?;
        let text = render::status(&[found], self.out.paint);
        self.out.text(&text.lines().fold(String::new(), |all, line| {
            let gap = if line.is_empty() { "" } else { "    " };
            all + gap + line + "\n"
        }))
    }

    fn title(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        let gap = if self.step == 1 { "" } else { "\n" };
        let title = self.out.paint.tone(Tone::Strong, &format!("{}/{STEPS} {title}", self.step));
        let clock =
            self.out.paint.tone(Tone::Faint, &format!("[{:.1} s]", self.began.elapsed().as_secs_f64()));
        self.out.line(&format!("{gap}{title}  {clock}"))
    }

    fn explain(&self, text: &str) -> Result<()> {
        self.out.line(&format!("    {text}"))
    }
}

/// Every fourth large piece, and single blocks strewn over the rest.
fn rewritten(blocks: usize) -> Vec<Range<usize>> {
    let large = (LARGE..blocks).step_by(4 * LARGE).map(|b| b..(b + LARGE).min(blocks));
    // In the third piece of each four, so that none is written twice at once.
    let groups = blocks / (4 * LARGE);
    let small = (0..SMALL_WRITES.min(groups * LARGE)).map(|i| {
        let block = (i % groups) * 4 * LARGE + 2 * LARGE + (i / groups) * 7 % LARGE;
        block..block + 1
    });
    large.chain(small).collect()
}

fn spoil(path: &Path, bytes: u64) -> Result<()> {
    let failed = |e| Error::io(format!("cannot overwrite {}", path.display()), e);
    let mut file = File::options().write(true).open(path).map_err(failed)?;
    // A byte pattern that is nobody's magic number. Both ends: superblocks are at both.
    let garbage: Vec<u8> =
        (0..1 << 20).map(|i: u32| (i.wrapping_mul(0x9e37_79b9) >> 24).to_le_bytes()[0] | 1).collect();
    for _ in 0..bytes / GARBAGE_PIECE {
        file.write_all(&garbage).map_err(failed)?;
    }
    file.seek(SeekFrom::Start(MEMBER_BYTES - GARBAGE_PIECE)).map_err(failed)?;
    file.write_all(&garbage).map_err(failed)?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_is_written_twice_at_once() {
        for blocks in [LARGE, 4 * LARGE, 512 * LARGE] {
            let mut seen = vec![false; blocks];
            for block in rewritten(blocks).into_iter().flatten() {
                assert!(!std::mem::replace(&mut seen[block], true), "block {block} of {blocks}");
            }
        }
        assert!(rewritten(512 * LARGE).len() > SMALL_WRITES);
    }
}
