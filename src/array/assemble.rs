//! Bringing an array up from the devices at hand.

use super::coordinator::{Coordinator, Known, State};
use super::decide::{Standing, Verdicts, judge};
use super::ledger::{self, Identity};
use super::transition::{self as go, Change};
use super::{AssembleOptions, Candidate, MemberState};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, Features, MAX_PREVIOUS, Membership, Role, Superblock};
use crate::journal;
use crate::member::Member;
use crate::stripe::RebuiltMap;
use crate::units::{ArrayId, Lineage, MemberId, StripeIndex};
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
    candidates: Vec<Candidate>,
    options: AssembleOptions,
) -> Result<Assembled> {
    let read = candidates.iter().map(|c| async {
        let found = ledger::read(&options.env, &c.backend).await;
        (c.path.clone(), found.map_err(|e| Error::new(e.kind(), e.report())))
    });
    let found: Vec<(String, Result<Superblock>)> = join_all(read).await;
    let Verdicts { newest, standings } = judge(array, &found)?;
    if newest.must_stay_read_only() {
        return Err(Error::new(ErrorKind::Unsupported, "the array uses features this build cannot write")
            .array(&newest.name)
            .hint("use a newer palisade"));
    }
    let mut identity = Identity::of(&newest);
    let journaled = identity.features.has_journal();
    let was_clean = newest.membership.clean;
    let mut state = State {
        membership: newest.membership.clone(),
        known: HashMap::new(),
        recorded: false,
        write_count: found.iter().filter_map(|(_, s)| Some(s.as_ref().ok()?.write_count)).max().unwrap_or(0),
    };
    for ((candidate, standing), (_, read)) in candidates.into_iter().zip(&standings).zip(&found) {
        if let Ok(superblock) = read {
            take(&mut state, &options, &identity, candidate, superblock.member, standing, was_clean);
        }
    }
    let refused = reasons(&found, &standings);
    let missing = missing(&state.membership, &identity, &state.known);
    check_enough(&identity, &state.membership, &missing, &refused)?;
    let degraded = !missing.is_empty() || !go::lost(&state.membership, &identity.shape).is_empty();
    if !was_clean && degraded && !journaled && !options.force {
        return Err(unclean_and_degraded(&identity));
    }
    if !journaled {
        begin_journal(&mut identity, &state.known).await?;
    }
    for (path, why) in &refused {
        options
            .observer
            .event(crate::observe::Event::DeviceRefused { path: path.clone(), reason: why.clone() });
    }
    let coordinator = Coordinator::new(options, identity, state);
    let proof = coordinator.begin().await;
    // The last change may have been cut short, or be in caches only. Were the count raised before
    // that is durable everywhere, and this cut short too, some would be two behind whoever has it,
    // and taken for stale.
    coordinator.commit_with(&proof, false, |_| {}).await?;
    if !missing.is_empty() {
        let lineage = Lineage::from_random(coordinator.options.env.random_id());
        coordinator.edit_unrecorded(&proof, |m| m.start_new_lineage(lineage));
    }
    if !was_clean && !journaled {
        coordinator.edit_unrecorded(&proof, |m| m.resync_from = Some(StripeIndex(0)));
    }
    let changes: Vec<Change> = missing.iter().map(|id| Change::Lose(*id)).collect();
    coordinator.commit(&proof, &changes).await?;
    drop(proof);
    Ok(Assembled { coordinator, was_clean })
}

impl Membership {
    fn start_new_lineage(&mut self, lineage: Lineage) {
        self.previous.insert(0, self.lineage);
        self.previous.truncate(MAX_PREVIOUS);
        self.lineage = lineage;
    }
}

/// Gives an array of a build that had no journal an empty one.
async fn begin_journal(identity: &mut Identity, known: &HashMap<MemberId, Known>) -> Result<()> {
    for member in known.values().filter_map(|k| k.member.as_ref()) {
        journal::format(member, identity.array, identity.journal()).await?;
        member.flush().await?;
    }
    identity.features.incompat |= Features::JOURNAL;
    Ok(())
}

fn take(
    state: &mut State,
    options: &AssembleOptions,
    identity: &Identity,
    candidate: Candidate,
    id: MemberId,
    standing: &Standing,
    was_clean: bool,
) {
    match standing {
        Standing::Refused(_) => {}
        Standing::Stale(why) => {
            let absent = Some((MemberState::Stale, why.clone()));
            state.known.insert(id, Known { path: candidate.path, absent, ..Known::default() });
        }
        Standing::Current { role, fresh } => {
            let entry = state.membership.entry(id);
            // After an unclean stop a replacement may lack the last writes: it begins anew.
            let believed = entry.filter(|_| *fresh && was_clean);
            let rebuilt = matches!(role, Role::Rebuilding(_)).then(|| rebuilt(believed, identity.stripes()));
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
    of_slot.chain(targets).chain(go::spares(m)).filter(|id| !here(id)).collect()
}

fn check_enough(
    identity: &Identity,
    m: &Membership,
    missing: &[MemberId],
    refused: &[(String, String)],
) -> Result<()> {
    let in_sync = identity.shape.slots().filter_map(|s| go::in_sync(m, s));
    let here = in_sync.filter(|id| !missing.contains(id)).count();
    let need = identity.shape.data();
    if here >= need {
        return Ok(());
    }
    let reasons: Vec<String> = refused.iter().map(|(p, why)| format!("{p}: {why}")).collect();
    let mut what = format!("only {here} current members are here, {need} are needed");
    if !reasons.is_empty() {
        what.push_str(&format!(" ({})", reasons.join("; ")));
    }
    Err(Error::new(ErrorKind::Failed, what)
        .array(&identity.name)
        .hint("bring back the missing members, or correct their paths in the configuration, and start again"))
}

fn reasons(found: &[(String, Result<Superblock>)], standings: &[Standing]) -> Vec<(String, String)> {
    let reason = |((path, _), standing): (&(String, Result<_>), &Standing)| match standing {
        Standing::Current { .. } => None,
        Standing::Stale(why) => Some((path.clone(), format!("stale, {why}"))),
        Standing::Refused(why) => Some((path.clone(), why.clone())),
    };
    found.iter().zip(standings).filter_map(reason).collect()
}

fn unclean_and_degraded(identity: &Identity) -> Error {
    let what = "the array was not stopped in order, has no journal yet, and is degraded: blocks of the lost members in \
                stripes that were being written at that moment may be wrong, and nothing can tell which";
    Error::new(ErrorKind::Failed, what).array(&identity.name).hint(format!(
        "bring back the missing member and start again; or accept the risk with `palisade start {} --force`",
        identity.name
    ))
}
