//! From an untrusted request header to a command the volume may see: pure, nothing is received or
//! allocated here.
//!
//! Order of refusals: flags and command (EINVAL), read-only (EPERM), length (EINVAL, EOVERFLOW),
//! range (EINVAL; ENOSPC for what writes). A refused request's payload is skipped, unless it is so
//! long that ending the connection is the better answer.

use super::errno::Errno;
use super::wire::{ALLOCATION_ID, EXTENDED_REQUEST_MAGIC, Fields, Framing, REQUEST_MAGIC, cmd, cmd_flag};
use crate::export::{Durability, ZeroOptions};

/// A status query's payload may name at most this many contexts.
const MAX_CONTEXT_IDS: u64 = 16;

/// A request header as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawRequest {
    pub flags: u16,
    pub kind: u16,
    pub cookie: u64,
    pub offset: u64,
    pub length: u64,
}

impl RawRequest {
    /// Reads a header; `None` if it is no request of this framing.
    pub fn parse(framing: Framing, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let extended = framing == Framing::Extended;
        let magic = if extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
        if fields.u32()? != magic {
            return None;
        }
        Some(Self {
            flags: fields.u16()?,
            kind: fields.u16()?,
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: if extended { fields.u64()? } else { fields.u32()?.into() },
        })
    }
}

/// What a session agreed on and what its export allows.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub framing: Framing,
    /// `base:allocation` was selected.
    pub contexts: bool,
    pub read_only: bool,
    pub size_bytes: u64,
    pub max_request_bytes: u64,
    pub max_skipped_bytes: u64,
}

/// A valid request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Read {
        offset: u64,
        len: u64,
    },
    Write {
        offset: u64,
        durability: Durability,
    },
    Flush,
    Trim {
        offset: u64,
        len: u64,
        durability: Durability,
    },
    Zero {
        offset: u64,
        len: u64,
        options: ZeroOptions,
    },
    Cache,
    Status {
        offset: u64,
        len: u64,
        one: bool,
    },
    /// A status query whose length is in its payload: see [`status_in_payload`].
    StatusInPayload {
        offset: u64,
        one: bool,
    },
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub errno: Errno,
    pub why: &'static str,
}

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// Nothing.
    None,
    /// This many bytes, to be kept for the command.
    Keep(usize),
    /// This many bytes, to be dropped.
    Skip(u64),
    /// More than is worth skipping: the connection ends.
    TooLong,
}

type Checked = Result<Command, Refusal>;

fn refuse(errno: Errno, why: &'static str) -> Checked {
    Err(Refusal { errno, why })
}

/// Checks a request. `DISC` is not a request in this sense.
pub(super) fn check(raw: &RawRequest, rules: &Rules) -> (Payload, Checked) {
    let checked = check_flags(raw, rules).and_then(|()| check_command(raw, rules));
    let extended = rules.framing == Framing::Extended;
    // In extended framing a write must say that it carries a payload, but qemu's client (10.0)
    // does not say it, and a write without a payload has no meaning.
    let carries = raw.kind == cmd::WRITE || (extended && raw.flags & cmd_flag::PAYLOAD_LEN != 0);
    let payload = match (carries, &checked) {
        (false, _) => Payload::None,
        (true, Ok(_)) => usize::try_from(raw.length).map_or(Payload::TooLong, Payload::Keep),
        (true, Err(_)) if raw.length <= rules.max_skipped_bytes => Payload::Skip(raw.length),
        (true, Err(_)) => Payload::TooLong,
    };
    (payload, checked)
}

fn check_flags(raw: &RawRequest, rules: &Rules) -> Result<(), Refusal> {
    let extended = rules.framing == Framing::Extended;
    let own = match raw.kind {
        cmd::READ if rules.framing != Framing::Simple => cmd_flag::DF,
        cmd::WRITE if extended => cmd_flag::PAYLOAD_LEN,
        cmd::WRITE_ZEROES => cmd_flag::NO_HOLE | cmd_flag::FAST_ZERO,
        cmd::BLOCK_STATUS if extended && rules.contexts => cmd_flag::REQ_ONE | cmd_flag::PAYLOAD_LEN,
        cmd::BLOCK_STATUS => cmd_flag::REQ_ONE,
        _ => 0,
    };
    match raw.flags & !(own | cmd_flag::FUA) {
        0 => Ok(()),
        _ => Err(Refusal { errno: Errno::INVAL, why: "a flag that this command does not have" }),
    }
}

fn check_command(raw: &RawRequest, rules: &Rules) -> Checked {
    let (offset, len) = (raw.offset, raw.length);
    let has = |flag| raw.flags & flag != 0;
    let durability = if has(cmd_flag::FUA) { Durability::Durable } else { Durability::Volatile };
    match raw.kind {
        cmd::READ => {
            in_range(offset, len, rules, Errno::INVAL)?;
            if len > rules.max_request_bytes {
                let simple = rules.framing == Framing::Simple;
                let errno = if simple { Errno::INVAL } else { Errno::OVERFLOW };
                return refuse(errno, "a read longer than the maximum payload");
            }
            Ok(Command::Read { offset, len })
        }
        cmd::WRITE => {
            writable(rules)?;
            if len > rules.max_request_bytes {
                return refuse(Errno::INVAL, "a write longer than the maximum payload");
            }
            in_range(offset, len, rules, Errno::NOSPC)?;
            Ok(Command::Write { offset, durability })
        }
        cmd::FLUSH if offset != 0 || len != 0 => refuse(Errno::INVAL, "a flush of a range"),
        cmd::FLUSH => Ok(Command::Flush),
        cmd::TRIM => {
            writable(rules)?;
            in_range(offset, len, rules, Errno::INVAL)?;
            Ok(Command::Trim { offset, len, durability })
        }
        cmd::CACHE => {
            in_range(offset, len, rules, Errno::INVAL)?;
            Ok(Command::Cache)
        }
        cmd::WRITE_ZEROES => {
            writable(rules)?;
            in_range(offset, len, rules, Errno::NOSPC)?;
            let (no_hole, fast_only) = (has(cmd_flag::NO_HOLE), has(cmd_flag::FAST_ZERO));
            Ok(Command::Zero { offset, len, options: ZeroOptions { durability, no_hole, fast_only } })
        }
        cmd::BLOCK_STATUS => check_status(raw, rules),
        _ => refuse(Errno::INVAL, "an unknown command"),
    }
}

fn check_status(raw: &RawRequest, rules: &Rules) -> Checked {
    if !rules.contexts {
        return refuse(Errno::INVAL, "block status without a metadata context");
    }
    let one = raw.flags & cmd_flag::REQ_ONE != 0;
    if raw.flags & cmd_flag::PAYLOAD_LEN != 0 {
        if raw.length < 12 || raw.length > 8 + 4 * MAX_CONTEXT_IDS || !raw.length.is_multiple_of(4) {
            return refuse(Errno::INVAL, "block status with a malformed payload");
        }
        return Ok(Command::StatusInPayload { offset: raw.offset, one });
    }
    status_of(raw.offset, raw.length, one, rules)
}

fn status_of(offset: u64, len: u64, one: bool, rules: &Rules) -> Checked {
    in_range(offset, len, rules, Errno::INVAL)?;
    if len == 0 {
        return refuse(Errno::INVAL, "block status of nothing");
    }
    Ok(Command::Status { offset, len, one })
}

/// The second half of checking a status query with a payload: its length, and the contexts.
pub(super) fn status_in_payload(offset: u64, one: bool, payload: &[u8], rules: &Rules) -> Checked {
    let mut fields = Fields(payload);
    let (Some(len), Some(id)) = (fields.u64(), fields.u32()) else {
        return refuse(Errno::INVAL, "block status with a malformed payload");
    };
    if id != ALLOCATION_ID || !fields.is_empty() {
        return refuse(Errno::INVAL, "block status of an unknown or repeated context");
    }
    status_of(offset, len, one, rules)
}

fn writable(rules: &Rules) -> Result<(), Refusal> {
    match rules.read_only {
        true => Err(Refusal { errno: Errno::PERM, why: "this export is read-only" }),
        false => Ok(()),
    }
}

fn in_range(offset: u64, len: u64, rules: &Rules, errno: Errno) -> Result<(), Refusal> {
    match offset.checked_add(len) {
        Some(end) if end <= rules.size_bytes => Ok(()),
        _ => Err(Refusal { errno, why: "beyond the end of the export" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(framing: Framing) -> Rules {
        Rules {
            framing,
            contexts: true,
            read_only: false,
            size_bytes: 1 << 40,
            max_request_bytes: 1 << 20,
            max_skipped_bytes: 1 << 21,
        }
    }

    #[test]
    fn every_command_knows_its_own_flags_and_no_other_in_every_framing() {
        for framing in [Framing::Simple, Framing::Structured, Framing::Extended] {
            let extended = framing == Framing::Extended;
            for kind in 0..=u16::from(u8::MAX) {
                for bit in 0..16 {
                    let flags = 1u16 << bit;
                    let length = match kind {
                        cmd::FLUSH => 0,
                        cmd::BLOCK_STATUS => 12,
                        _ => 4096,
                    };
                    let raw = RawRequest { flags, kind, cookie: 1, offset: 0, length };
                    let allowed = matches!(
                        (kind, bit),
                        (cmd::READ | cmd::WRITE | cmd::FLUSH..=cmd::BLOCK_STATUS, 0)
                            | (cmd::WRITE_ZEROES, 1 | 4)
                            | (cmd::BLOCK_STATUS, 3)
                    ) || (kind == cmd::READ && bit == 2 && framing != Framing::Simple)
                        || (extended && matches!(kind, cmd::WRITE | cmd::BLOCK_STATUS) && bit == 5);
                    let (_, checked) = check(&raw, &rules(framing));
                    assert_eq!(checked.is_ok(), allowed, "{framing:?} command {kind} bit {bit}: {checked:?}");
                    if let Err(refusal) = checked {
                        assert_eq!(refusal.errno, Errno::INVAL);
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_that_wraps_around_is_beyond_the_end() {
        let raw = |kind, offset, length| RawRequest { flags: 0, kind, cookie: 0, offset, length };
        for (kind, errno) in [
            (cmd::READ, Errno::INVAL),
            (cmd::WRITE, Errno::NOSPC),
            (cmd::WRITE_ZEROES, Errno::NOSPC),
            (cmd::TRIM, Errno::INVAL),
            (cmd::CACHE, Errno::INVAL),
            (cmd::BLOCK_STATUS, Errno::INVAL),
        ] {
            for (offset, length) in [(u64::MAX, 1), (u64::MAX, 4096), (1 << 40, 1), ((1 << 40) - 1, 2)] {
                let (_, checked) = check(&raw(kind, offset, length), &rules(Framing::Simple));
                assert_eq!(checked.unwrap_err().errno, errno, "command {kind} at {offset}");
            }
            let (_, checked) = check(&raw(kind, (1 << 40) - 1, 1), &rules(Framing::Simple));
            assert!(checked.is_ok());
        }
    }

    #[test]
    fn a_refused_payload_is_skipped_up_to_a_bound() {
        let write = |length| RawRequest { flags: 0, kind: cmd::WRITE, cookie: 0, offset: 0, length };
        let payload = |length| check(&write(length), &rules(Framing::Structured)).0;
        assert_eq!(payload(1 << 20), Payload::Keep(1 << 20));
        assert_eq!(payload((1 << 20) + 1), Payload::Skip((1 << 20) + 1));
        assert_eq!(payload((1 << 21) + 1), Payload::TooLong);
    }
}
