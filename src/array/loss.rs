//! Losing members: one that fails no longer counts if it can be spared, and is suspect if it cannot.

use super::coordinator::{Changing, Coordinator};
use super::transition::{self as go, Change};
use crate::env::join_all;
use crate::error::Result;
use crate::member::{Member, Presence};
use crate::mutation::{Protection, without};
use crate::observe::Event;
use crate::stripe::{Membership, Verdict};
use crate::units::MemberId;
use std::sync::Arc;

impl Coordinator {
    /// Loses a member if it can be spared, together with others found failing at the same moment;
    /// otherwise all of them become suspect.
    pub async fn lose(&self, id: MemberId, why: String) -> Verdict {
        let proof = self.begin().await;
        self.lose_locked(&proof, id, why).await
    }

    /// As [`Self::lose`], unless it was opened anew since: it may have been taken back while this was found.
    pub async fn lose_opened(&self, member: &Arc<Member>, why: String) -> Verdict {
        let proof = self.begin().await;
        match self.known(member.id()).member {
            Some(now) if Arc::ptr_eq(&now, member) => self.lose_locked(&proof, member.id(), why).await,
            _ => Verdict::Kicked,
        }
    }

    pub async fn lose_locked(&self, proof: &Changing<'_>, id: MemberId, why: String) -> Verdict {
        match go::role(&self.membership(), id) {
            None => return Verdict::Kicked,
            Some(role) if role.is_faulty() => return Verdict::Kicked,
            Some(role) if role.is_in_sync() => {}
            // Nothing can be recorded then; it is looked at again when the array resumes.
            Some(_) if self.refuse_if_failed().is_err() => return Verdict::Kept,
            Some(_) => return self.lose_all(proof, vec![(id, why)]).await,
        }
        if self.known(id).suspect.is_some() {
            // It was found that it cannot be spared, and is being tried again.
            return Verdict::Kept;
        }
        let mut failing = vec![(id, why)];
        failing.extend(self.other_failing(id).await);
        let mut after = self.membership();
        if failing.iter().any(|(id, _)| go::apply(&mut after, Change::Lose(*id)).is_err())
            || (!self.suffices(&after) && !without(Protection::LastIsKept))
        {
            drop(self.suspect(failing));
            return Verdict::Kept;
        }
        self.lose_all(proof, failing).await
    }

    async fn lose_all(&self, proof: &Changing<'_>, failing: Vec<(MemberId, String)>) -> Verdict {
        let changes: Vec<Change> = failing.iter().map(|(id, _)| Change::Lose(*id)).collect();
        let paths: Vec<(MemberId, String)> =
            failing.iter().map(|(id, _)| (*id, self.known(*id).path)).collect();
        match self.commit(proof, &changes).await {
            Ok(()) => {
                for (id, why) in failing {
                    self.let_go(id, why);
                }
                for (id, path) in paths {
                    if go::role(&self.membership(), id).is_none() {
                        self.tell(Event::MemberRemoved { path });
                    }
                }
                Verdict::Kicked
            }
            Err(_) => {
                drop(self.suspect(failing));
                Verdict::Kept
            }
        }
    }

    /// Flushes every member that counts; one that cannot is lost.
    pub async fn flush_all(&self, proof: &Changing<'_>) -> Result<()> {
        let roster = self.roster();
        let flushes = roster.everyone().map(|m| async move { (m.id(), m.flush().await.err()) });
        let mut outcome = Ok(());
        for (id, error) in join_all(flushes).await {
            // Each is told of, also after the first: one whose flush failed is not read until it is looked after.
            if let Some(error) = error
                && self.lose_locked(proof, id, error.report()).await == Verdict::Kept
            {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    /// Members in sync, other than `id`, that do not answer now.
    async fn other_failing(&self, id: MemberId) -> Vec<(MemberId, String)> {
        let others: Vec<Arc<Member>> = {
            let state = self.state();
            let in_sync = |e: &&crate::format::Entry| e.role.is_in_sync() && e.member != id;
            let entries = state.membership.entries.iter().filter(in_sync);
            entries.filter_map(|e| state.known.get(&e.member)?.member.clone()).collect()
        };
        let checks = others.iter().map(|m| async move { Some((m.id(), ailment(m).await?)) });
        join_all(checks).await.into_iter().flatten().collect()
    }
}

/// What is wrong with a member, if anything: is it there, can it be read?
pub(super) async fn ailment(member: &Member) -> Option<String> {
    match member.probe().await {
        Err(e) => return Some(e.report()),
        Ok(Presence::Gone(how)) => return Some(how),
        Ok(Presence::Present) => {}
    }
    let [head_a, ..] = crate::format::Superblock::slot_offsets(member.size_bytes());
    member.read(head_a, 4096).await.err().map(|e| e.report())
}
