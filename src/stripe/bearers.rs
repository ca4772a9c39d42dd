//! The members of a roster as bearers of the journal.

use super::roster::{Membership, Verdict};
use crate::env::LocalFuture;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Bearers;
use crate::member::Member;
use crate::mutation::{Protection, without};
use std::sync::Arc;

/// Every member of the roster takes the frames of its slot, replacements included; or, if the journal
/// has members of its own, each of those a copy of every frame.
pub struct RosterBearers(pub Arc<dyn Membership>);

impl Bearers for RosterBearers {
    fn bearers(&self) -> Result<Vec<(usize, Arc<Member>)>> {
        let roster = self.0.roster();
        if let Some(why) = &roster.refuse_writes {
            return Err(Error::new(ErrorKind::Failed, format!("writes are refused: {why}")));
        }
        if let Some(journal) = &roster.journal {
            if journal.in_sync.is_empty() {
                return Err(Error::new(ErrorKind::Failed, "no member is left to bear the journal"));
            }
            return Ok(journal.members().map(|(index, m)| (*index, Arc::clone(m))).collect());
        }
        let of_slot = |(slot, view): (usize, &super::SlotView)| {
            let target = view.target.as_ref().map(|t| &t.member);
            let members: Vec<_> = view.primary.iter().chain(target).map(|m| (slot, Arc::clone(m))).collect();
            members
        };
        Ok(roster.slots.iter().enumerate().flat_map(of_slot).collect())
    }

    fn everyone(&self) -> Result<Vec<Arc<Member>>> {
        let roster = self.0.roster();
        // Who cannot write has nobody to make durable.
        self.bearers()?;
        Ok(roster.everyone().cloned().collect())
    }

    fn failed<'a>(&'a self, member: &'a Member, error: Error) -> LocalFuture<'a, Result<()>> {
        if without(Protection::FailedFrameWrite) {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(settle(&*self.0, member, error))
    }
}

/// Reports a failed write; `Ok` once the member no longer counts, durably.
pub(super) async fn settle(membership: &dyn Membership, member: &Member, error: Error) -> Result<()> {
    let kind = error.kind();
    let text = error.report();
    match membership.write_failed(member.id(), error).await {
        Verdict::Kicked => Ok(()),
        Verdict::Kept => Err(Error::new(
            if kind == ErrorKind::NoSpace { kind } else { ErrorKind::Io },
            format!("write failed and the member cannot be spared ({text})"),
        )
        .member(member.path())),
    }
}
