//! Looking after the members: gone, overwritten, back again?

use super::coordinator::{Coordinator, Known};
use super::ledger;
use crate::env::join_all;
use crate::error::Result;
use crate::format::Entry;
use crate::member::{Member, Presence};
use crate::observe::Event;
use crate::units::MemberId;
use std::sync::Arc;

impl Coordinator {
    /// One round over all members. Never fails: what it finds is acted upon.
    pub async fn look_after(&self) {
        let everyone: Vec<(Entry, Known)> = {
            let state = self.state();
            let known = |e: &Entry| Some((e.clone(), state.known.get(&e.member)?.clone()));
            state.membership.entries.iter().filter_map(known).collect()
        };
        let (suspects, well): (Vec<_>, Vec<_>) =
            everyone.into_iter().filter(|(_, k)| k.member.is_some()).partition(|(_, k)| k.suspect.is_some());
        let checks = well.iter().filter_map(|(_, k)| {
            let member = k.member.as_ref()?;
            Some(async move { Some((member, self.gone(member).await?)) })
        });
        for (member, why) in join_all(checks).await.into_iter().flatten() {
            self.lose_opened(member, why).await;
        }
        self.check_superblocks().await;
        for (entry, known) in suspects {
            if self.try_again(&entry, &known).await.is_err()
                && let Some(member) = &known.member
            {
                // It is tried again in the next round, and stays the best there is meanwhile,
                // though the try may have failed in a flush.
                member.trust();
            }
        }
    }

    async fn gone(&self, member: &Member) -> Option<String> {
        match member.probe().await {
            Ok(Presence::Present) => None,
            Ok(Presence::Gone(how)) => Some(how),
            Err(e) => Some(e.report()),
        }
    }

    async fn check_superblocks(&self) {
        let Some(proof) = self.try_begin() else { return };
        if self.refuse_if_failed().is_err() {
            return;
        }
        for (id, why) in self.overwritten(&self.membership()).await {
            self.lose_locked(&proof, id, why).await;
        }
    }

    /// A suspect that answers again and missed nothing is in sync again: writes were refused
    /// since it failed.
    async fn try_again(&self, entry: &Entry, known: &Known) -> Result<()> {
        let Some(old) = known.member.clone() else { return Ok(()) };
        let mut member = old;
        if self.gone(&member).await.is_some() {
            let backend = self.options.opener.open(&known.path).await?;
            let found = ledger::read(&self.options.env, &backend).await?;
            self.check_identity(entry.member, &found)?;
            member = Arc::new(Member::new(
                self.options.env.clone(),
                entry.member,
                known.path.clone(),
                backend,
                self.options.member_deadline,
                self.identity.areas.data_offset,
            ));
        }
        let proof = self.begin().await;
        let (membership, write_count) = {
            let state = self.state();
            (state.membership.clone(), state.write_count)
        };
        let superblock = self.identity.superblock(member.id(), member.size_bytes(), &membership, write_count);
        ledger::write(&member, &superblock).await?;
        self.readmit(&proof, entry.member, member).await?;
        drop(proof);
        if let Some(seat) = entry.role.seat() {
            self.tell(Event::MemberRecovered { seat, path: known.path.clone() });
        }
        Ok(())
    }

    fn check_identity(&self, id: MemberId, found: &crate::format::Superblock) -> Result<()> {
        use crate::error::{Error, ErrorKind};
        let now = self.membership().event_count;
        if found.array != self.identity.array || found.member != id {
            return Err(Error::new(ErrorKind::Foreign, "another member is there now"));
        }
        if found.membership.event_count.next() < now {
            return Err(Error::new(ErrorKind::Stale, "an old copy is there now"));
        }
        Ok(())
    }
}
