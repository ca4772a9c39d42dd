//! Going on without a journal all of whose members are gone.
//!
//! What was answered and not yet home is gone with them, and rows whose writing they would have completed may
//! be torn. So this is never done unasked, and not while one of them is left.
//!
//! ```text
//!   1  the table gets new members to bear the journal, and "discarded"
//!   2  every member gets the first checkpoint of the new journal     | again and again,
//!   3  every stripe is checked (see `stripe::prove`), if need be     | until
//!   4  the table loses "discarded"                                   v this is recorded
//! ```
//!
//! Until the first is recorded the old members would still be believed, were they to come back; from then on
//! they no longer belong to the array. As with every start, a new lineage begins if others are missing. While
//! the table says "discarded" no member of a slot is given up, for a parity that nobody checked cannot stand in
//! for it, unless an admin insists.

use super::coordinator::{Coordinator, State};
use super::create::FORMAT_DEADLINE;
use super::decide::Standing;
use super::ledger::{self, Identity};
use super::transition::{self as go, Change};
use super::{Candidate, Discard};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, JournalMembers, JournalState, Membership, Role};
use crate::journal;
use crate::member::Member;
use crate::observe::Event;
use crate::stripe::Stripes;
use crate::units::{Epoch, EventCount, JournalIndex, Lineage, MemberId};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// So often the check says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What is to be done about the journal, judged by who is here.
pub(super) enum Plan {
    /// Nothing: it is here, or nobody asked.
    Keep,
    /// It is lost with all its members: these, which all hold it, are to bear a new one.
    Discard(JournalMembers),
}

/// Judges what was asked. Of the standings the last are those of the new members.
pub(super) fn plan(identity: &Identity, asked: &Discard, standings: &[Standing]) -> Result<Plan> {
    let bears = |s: &Standing| match s {
        Standing::Current { role, .. } => role.is_in_sync() && matches!(role, Role::Journal(..)),
        Standing::Stale(_) | Standing::Refused(_) => false,
    };
    let (old, new) = standings.split_at(standings.len().saturating_sub(asked.journal.len()));
    // Bearers already: an earlier start got so far.
    if asked.journal.is_empty() || new.iter().any(bears) {
        return Ok(Plan::Keep);
    }
    let refuse = |what: &str, hint: String| {
        Err(Error::new(ErrorKind::InvalidInput, what).array(&identity.name).hint(hint))
    };
    if identity.journal_members.is_none() {
        let what = "has no journal members of its own: its members bear the journal";
        return refuse(what, "start it without --discard-journal".to_owned());
    }
    if old.iter().any(bears) {
        let what = "there is nothing to discard: a current member that bears the journal is here";
        return refuse(
            what,
            "start it without --discard-journal, and replace those that are gone".to_owned(),
        );
    }
    for (standing, candidate) in new.iter().zip(&asked.journal) {
        let in_use = |role: &Role| !matches!(role, Role::Journal(..));
        if matches!(standing, Standing::Current { role, .. } if in_use(role)) {
            let error =
                Error::new(ErrorKind::InvalidInput, "is a member of this array, and bears no journal");
            return Err(error.array(&identity.name).member(&candidate.path).hint("give another one"));
        }
    }
    let (given, needed) = (asked.journal.len(), identity.shape.parity() + 1);
    let count = u8::try_from(given).ok().filter(|_| given >= needed);
    let Some(count) = count else {
        let what = format!("a journal of its own needs at least {needed} members, {given} given");
        let why = format!("{} of any kind may be lost, and one with the journal must be left", needed - 1);
        return refuse(&what, why);
    };
    if !asked.occupied.is_empty() {
        let what = format!("nothing was written: {}", asked.occupied.join("; "));
        return Err(Error::new(ErrorKind::AlreadyExists, what)
            .array(&identity.name)
            .hint("give other members, or --force to overwrite what they hold"));
    }
    let sizes = asked.journal.iter().map(|c| (c.backend.size_bytes(), &c.path));
    let Some((smallest, path)) = sizes.min_by_key(|(size, _)| *size) else { return Ok(Plan::Keep) };
    JournalMembers::plan(count, smallest).map(Plan::Discard).map_err(|e| e.member(path))
}

/// Whether parity may not match the data, if the journal is discarded now or was.
pub(super) fn is_doubtful(m: &Membership, plan: &Plan) -> bool {
    (m.discarded || matches!(plan, Plan::Discard(_))) && !m.clean
}

/// Refuses to rely on parity that nothing proves.
pub(super) fn refuse_doubtful(name: &str, lost: usize, refused: &str) -> Error {
    let what = format!(
        "the journal is lost, so that parity may not match the data, and {lost} of the members that hold data \
         are not here{refused}"
    );
    Error::new(ErrorKind::Failed, what).array(name).hint(
        "bring back the missing members and start again; or give --force, and what they held is reconstructed \
         from parity although nothing proves that it matches",
    )
}

/// Of members that may be older images of themselves nothing can be told once the journal is gone.
pub(super) async fn refuse_images(identity: &Identity, state: &State) -> Result<()> {
    let m = &state.membership;
    if m.discarded {
        // The checkpoints are being written anew.
        return Ok(());
    }
    let in_sync = identity.shape.slots().filter_map(|s| go::in_sync(m, s));
    let members: Vec<Arc<Member>> = in_sync.filter_map(|id| state.known.get(&id)?.member.clone()).collect();
    let behind = journal::behind(identity.array, &members, identity.checkpoints(None).offset).await?;
    let Some(member) = members.iter().find(|m| behind.contains(&m.id())) else { return Ok(()) };
    Err(Error::new(ErrorKind::Failed, super::returning::IMAGE)
        .array(&identity.name)
        .member(member.path())
        .hint("bring back the member itself, or start with --exclude for it and, after an unclean stop, --force"))
}

impl Membership {
    /// What replacements hold, and what lost members lack, was true of stripes as the journal had them.
    pub(super) fn forget_all_progress(&mut self) {
        for entry in &mut self.entries {
            entry.rebuilt.clear();
            entry.lost_epoch = Epoch(0);
        }
    }
}

/// Formats the new members, and records that they bear the journal.
pub(super) async fn replace_journal(
    coordinator: &Coordinator,
    new: &[Candidate],
    missing: &[MemberId],
    former_write_count: u64,
) -> Result<()> {
    let proof = coordinator.begin().await;
    let env = &coordinator.options.env;
    let (identity, deadline) = (&coordinator.identity, coordinator.options.member_deadline);
    let data = identity.areas.data_offset;
    let member = |c: &Candidate, id, limit| {
        Arc::new(Member::new(env.clone(), id, c.path.clone(), Arc::clone(&c.backend), limit, data))
    };
    let ids: Vec<MemberId> = new.iter().map(|_| MemberId::from_random(env.random_id())).collect();
    let mut blank = coordinator.membership();
    blank.bear(&ids);
    // Nobody goes by what they say (their write count is the lowest), and one that does not get the change
    // before a crash is one event behind those that do.
    let formatted = join_all(new.iter().zip(&ids).map(|(candidate, id)| {
        let (member, blank) = (member(candidate, *id, FORMAT_DEADLINE), &blank);
        async move {
            let seat = blank.entry(*id).and_then(|e| e.role.seat());
            ledger::clear(&member, identity, seat).await?;
            ledger::format(&member, &identity.superblock(*id, member.size_bytes(), blank, 0)).await
        }
    }));
    for (done, candidate) in formatted.await.into_iter().zip(new) {
        done.map_err(|e| e.array(&identity.name).member(&candidate.path))?;
    }
    for (candidate, id) in new.iter().zip(&ids) {
        coordinator.introduce(member(candidate, *id, deadline));
    }
    let lineage = Lineage::from_random(env.random_id());
    coordinator.edit_unrecorded(&proof, |m| {
        m.bear(&ids);
        m.discarded = true;
        // With all others here there is nobody with whom another history could be made.
        if missing.iter().any(|id| m.entry(*id).is_some()) {
            m.start_new_lineage(lineage, former_write_count);
        }
    });
    let now = coordinator.membership();
    let lost: Vec<Change> =
        missing.iter().filter(|id| now.entry(**id).is_some()).map(|id| Change::Lose(*id)).collect();
    coordinator.commit(&proof, &lost).await?;
    coordinator.tell(Event::JournalDiscarded { clean: now.clean });
    Ok(())
}

impl Membership {
    /// These bear the journal, in place of everybody who did.
    fn bear(&mut self, ids: &[MemberId]) {
        self.entries.retain(|e| !matches!(e.role, Role::Journal(..)));
        for (index, member) in (0..).map(JournalIndex).zip(ids) {
            self.entries.push(Entry {
                member: *member,
                role: Role::Journal(index, JournalState::InSync),
                rebuilt: Vec::new(),
                lost_at: EventCount(0),
                lost_epoch: Epoch(0),
                taken_out: false,
            });
        }
    }
}

/// Checks every stripe if the last stop was not in order, and records that the array has got over it.
pub(super) async fn get_over(coordinator: &Coordinator, stripes: &Arc<Stripes>) -> Result<()> {
    let m = coordinator.membership();
    if !m.discarded {
        return Ok(());
    }
    if !m.clean {
        let last = Cell::new(None);
        let told = |done: u64, total: u64| {
            let now = coordinator.options.env.now();
            if done == total || last.get().is_none_or(|last| now.since(last) >= TELL_EVERY) {
                last.set(Some(now));
                coordinator.tell(Event::StripesChecked { done, total });
            }
        };
        let proof = stripes.prove_all(coordinator.identity.stripes(), &told).await.map_err(interrupted)?;
        coordinator.tell(Event::StripesProven {
            restored: proof.restored,
            lost: proof.lost,
            parity: proof.parity,
            unproven: proof.unproven,
        });
    }
    let proof = coordinator.begin().await;
    coordinator.commit_with(&proof, true, |m| m.discarded = false).await.map_err(interrupted)
}

fn interrupted(error: Error) -> Error {
    let what = "the check of all stripes, which a discarded journal makes necessary, was cut short";
    Error::new(ErrorKind::Failed, format!("{what}: {}", error.report())).hint(
        "bring back the members that failed and start again, which begins the check anew; without them it takes \
         --force",
    )
}
