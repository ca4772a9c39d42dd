//! Bringing an array up from the devices at hand.

use super::coordinator::{Coordinator, Known, State};
use super::decide::{Standing, Verdicts, judge};
use super::discard::{self, Plan};
use super::ledger::{self, Identity};
use super::transition::{self as go, Change};
use super::{AssembleOptions, Candidate, returning};
use crate::env::{deadline, join_all};
use crate::epoch::{self, EpochMap};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Ancestor, Entry, MAX_PREVIOUS, Membership, Role, Superblock};
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::stripe::RebuiltMap;
use crate::units::{ArrayId, Epoch, Lineage, MemberId, StripeIndex};
use std::collections::HashMap;
use std::sync::Arc;

/// What the members said, and what was done about it.
pub(super) struct Assembled {
    pub coordinator: Coordinator,
    /// The last stop was in order.
    pub was_clean: bool,
}

/// Judges the candidates, takes those that count, and records the start.
pub(super) async fn assemble(
    array: ArrayId,
    mut candidates: Vec<Candidate>,
    options: AssembleOptions,
) -> Result<Assembled> {
    let asked = options.discard.clone();
    let listed = candidates.len();
    candidates.extend(asked.journal.iter().cloned());
    let found = read_all(&options, &candidates).await;
    let Verdicts { newest, standings } = judge(array, &found)?;
    let identity = usable(&newest)?;
    let was_clean = newest.membership.clean;
    let plan = discard::plan(&identity, &asked, &standings)?;
    let doubtful = discard::is_doubtful(&newest.membership, &plan);
    // What is newest is recorded once more as it is, under the number it has.
    let ours = found.iter().filter_map(|(_, s)| s.as_ref().ok().filter(|s| s.array == array));
    let write_count = ours.map(|s| s.write_count).max().unwrap_or(0);
    let mut state = State {
        membership: newest.membership.clone(),
        known: HashMap::new(),
        unopened: options.unopened.clone(),
        recorded: false,
        write_count: write_count.saturating_sub(1),
    };
    if doubtful {
        state.membership.forget_all_progress();
    }
    for ((candidate, standing), (_, read)) in candidates.into_iter().zip(&standings).zip(&found) {
        if let Ok(superblock) = read {
            take(&mut state, &options, &identity, candidate, superblock.member, standing);
        }
    }
    // Of new members nothing is expected.
    let known = if matches!(plan, Plan::Discard(_)) { listed } else { found.len() };
    let mut refused = reasons(&found[..known], &standings);
    let need = Need { journal: matches!(plan, Plan::Keep), every_slot: doubtful && !asked.force };
    let (epochs, missing) = load_epochs(&identity, need, &mut state, &mut refused).await?;
    if let Plan::Discard(_) = plan {
        discard::refuse_images(&identity, &state).await?;
    }
    for (path, why) in &refused {
        options
            .observer
            .event(crate::observe::Event::DeviceRefused { path: path.clone(), reason: why.clone() });
    }
    flush_known(&state).await;
    let mut coordinator = Coordinator::new(options, identity, epochs, state);
    let proof = coordinator.begin().await;
    // The last change may have been cut short, or be in caches only. Were the count raised before
    // that is durable everywhere, and this cut short too, some would be two behind whoever has it,
    // and taken for stale.
    if !without(Protection::StartRecordsFirst) {
        coordinator.commit_with(&proof, false, |_| {}).await?;
    }
    if let Plan::Discard(own) = plan {
        drop(proof);
        coordinator.identity.journal_members = Some(own);
        discard::replace_journal(&coordinator, &asked.journal, &missing, write_count).await?;
        return Ok(Assembled { coordinator, was_clean });
    }
    if !missing.is_empty() && !without(Protection::NewLineage) {
        let lineage = Lineage::from_random(coordinator.options.env.random_id());
        coordinator.edit_unrecorded(&proof, |m| m.start_new_lineage(lineage, write_count));
    }
    let changes: Vec<Change> = missing.iter().map(|id| Change::Lose(*id)).collect();
    coordinator.commit(&proof, &changes).await?;
    drop(proof);
    Ok(Assembled { coordinator, was_clean })
}

/// What is written on each candidate.
async fn read_all(options: &AssembleOptions, candidates: &[Candidate]) -> Vec<(String, Result<Superblock>)> {
    let read = candidates.iter().map(|c| async {
        // One that hangs must not hold up the others.
        let read = ledger::read(&options.env, &c.backend);
        let found = deadline(&options.env, options.member_deadline, read).await.unwrap_or_else(|| {
            let limit = options.member_deadline.as_millis();
            Err(Error::new(ErrorKind::Timeout, format!("was not read within {limit} ms")))
        });
        (c.path.clone(), found.map_err(|e| Error::new(e.kind(), e.report())))
    });
    join_all(read).await
}

/// What was read of the members may be in their caches only, if whoever wrote it was killed. The next
/// superblock goes over the copy before that one: a power cut then could cost both.
async fn flush_known(state: &State) {
    let known = state.membership.entries.iter().filter_map(|e| state.known.get(&e.member)?.member.clone());
    let members: Vec<Arc<Member>> = known.collect();
    // One that cannot be flushed cannot be written either, and is found out by that.
    drop(join_all(members.iter().map(|m| m.flush())).await);
}

/// What the array is, if this build can run it.
fn usable(newest: &Superblock) -> Result<Identity> {
    if newest.must_stay_read_only() {
        return Err(Error::new(ErrorKind::Unsupported, "the array uses features this build cannot write")
            .array(&newest.name)
            .hint("use a newer palisade"));
    }
    let identity = Identity::of(newest);
    if !identity.features.has_journal() || !identity.features.has_checksums() {
        let what = "the array was made by a development build that had no journal or no checksums";
        return Err(Error::new(ErrorKind::Unsupported, what)
            .array(&newest.name)
            .hint("copy its data off with the build that made it, and create it anew"));
    }
    Ok(identity)
}

impl Membership {
    fn forget_progress(&mut self, id: MemberId) {
        for entry in self.entries.iter_mut().filter(|e| e.member == id) {
            entry.rebuilt.clear();
            entry.lost_epoch = Epoch(0);
        }
    }

    pub(super) fn start_new_lineage(&mut self, lineage: Lineage, write_count: u64) {
        self.previous.insert(0, Ancestor { lineage: self.lineage, write_count });
        self.previous.truncate(MAX_PREVIOUS);
        self.lineage = lineage;
    }
}

/// The epoch map of the members in sync that are here, and who is missing. One whose superblock looks
/// current and whose map shows that it is not is behind: an older image of it was put back.
async fn load_epochs(
    identity: &Identity,
    need: Need,
    state: &mut State,
    refused: &mut Vec<(String, String)>,
) -> Result<(EpochMap, Vec<MemberId>)> {
    loop {
        let m = &state.membership;
        let missing = missing(m, identity, &state.known);
        check_enough(identity, need, m, &missing, refused)?;
        let in_sync = identity.shape.slots().filter_map(|s| go::in_sync(m, s));
        let members: Vec<Arc<Member>> =
            in_sync.filter_map(|id| state.known.get(&id)?.member.clone()).collect();
        let offset = identity.areas.epoch_offset;
        let loaded = epoch::load(identity.array, identity.stripes(), offset, &members, m.epoch).await;
        if loaded.behind.is_empty() && loaded.silent.is_empty() {
            return Ok((loaded.map, missing));
        }
        let behind = loaded.behind.iter().map(|place| (place, returning::IMAGE));
        let silent = loaded.silent.iter().map(|place| (place, "did not answer in time"));
        for (place, why) in behind.chain(silent) {
            let Some(member) = members.get(*place) else { continue };
            refused.push((member.path().to_owned(), format!("stale, {why}")));
            state.known.insert(member.id(), returning::stale(member.path().to_owned(), why.to_owned()));
        }
    }
}

fn take(
    state: &mut State,
    options: &AssembleOptions,
    identity: &Identity,
    candidate: Candidate,
    id: MemberId,
    standing: &Standing,
) {
    match standing {
        Standing::Refused(_) => {}
        Standing::Stale(why) => {
            let is_out = state.membership.entry(id).is_some_and(|e| e.taken_out);
            let known = match is_out {
                true => returning::taken_out(candidate.path),
                false => returning::stale(candidate.path, why.clone()),
            };
            state.known.insert(id, known);
        }
        Standing::Current { role, fresh } => {
            if !fresh {
                // What was known of it was true of another copy.
                state.membership.forget_progress(id);
            }
            let entry = state.membership.entry(id);
            let rebuilt = matches!(role, Role::Rebuilding(_)).then(|| rebuilt(entry, identity.stripes()));
            let member = Member::new(
                options.env.clone(),
                id,
                candidate.path.clone(),
                candidate.backend,
                options.member_deadline,
                identity.areas.data_offset,
            );
            let member = Some(Arc::new(member));
            state.known.insert(id, Known { path: candidate.path, member, rebuilt, ..Known::default() });
        }
    }
}

fn rebuilt(entry: Option<&Entry>, stripes: u64) -> Arc<RebuiltMap> {
    let map = RebuiltMap::new(stripes);
    for range in entry.into_iter().flat_map(|e| &e.rebuilt) {
        for s in range.start.0..range.start.0.saturating_add(range.count).min(stripes) {
            map.insert(StripeIndex(s));
        }
    }
    Arc::new(map)
}

/// Members that the table counts on and that are not here.
fn missing(m: &Membership, identity: &Identity, known: &HashMap<MemberId, Known>) -> Vec<MemberId> {
    let here = |id: &MemberId| known.get(id).is_some_and(|k| k.member.is_some());
    let of_slot = identity.shape.slots().filter_map(|s| go::in_sync(m, s));
    let targets = identity.shape.slots().filter_map(|s| go::target(m, s));
    let bear = m.entries.iter().filter(|e| matches!(e.role, Role::Journal(..)) && !e.role.is_faulty());
    let all = of_slot.chain(targets).chain(go::spares(m)).chain(bear.map(|e| e.member));
    all.filter(|id| !here(id)).collect()
}

/// Who must be here, beside any k members of slots.
#[derive(Clone, Copy)]
struct Need {
    /// One that bears the journal.
    journal: bool,
    /// A member in sync for every slot.
    every_slot: bool,
}

fn check_enough(
    identity: &Identity,
    required: Need,
    m: &Membership,
    missing: &[MemberId],
    refused: &[(String, String)],
) -> Result<()> {
    let in_sync = identity.shape.slots().filter_map(|s| go::in_sync(m, s));
    let here = in_sync.filter(|id| !missing.contains(id)).count();
    let need = identity.shape.data();
    let of_journal = |e: &&Entry| matches!(e.role, Role::Journal(..)) && e.role.is_in_sync();
    let mut bear = m.entries.iter().filter(of_journal);
    let unlogged =
        required.journal && identity.journal_members.is_some() && bear.all(|e| missing.contains(&e.member));
    let lost = identity.shape.width() - here;
    let reasons: Vec<String> = refused.iter().map(|(p, why)| format!("{p}: {why}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
    let back = "bring back the missing members, or correct their paths in the configuration, and start again";
    let refuse = |what: String| Error::new(ErrorKind::Failed, what + &reasons).array(&identity.name);
    if here < need {
        return Err(refuse(format!("only {here} current members are here, {need} are needed")).hint(back));
    }
    if unlogged {
        let what = "no current member that bears the journal is here, one is needed";
        let hint = format!(
            "{back}; if all of them are gone for good, `palisade start {} --discard-journal NEW...` goes on \
             without what they held",
            identity.name
        );
        return Err(refuse(what.to_owned()).hint(hint));
    }
    if required.every_slot && lost > 0 {
        return Err(discard::refuse_doubtful(&identity.name, lost, &reasons));
    }
    Ok(())
}

fn reasons(found: &[(String, Result<Superblock>)], standings: &[Standing]) -> Vec<(String, String)> {
    let reason = |((path, _), standing): (&(String, Result<_>), &Standing)| match standing {
        Standing::Current { .. } => None,
        Standing::Stale(why) => Some((path.clone(), format!("stale, {why}"))),
        Standing::Refused(why) => Some((path.clone(), why.clone())),
    };
    found.iter().zip(standings).filter_map(reason).collect()
}
