//! Beginning a log anew where the one before it is lost with all members that bore it.
//!
//! Members that bear no frames go on from the checkpoints of the lost log. So the new one's gets a higher
//! generation than any of theirs, and every member has it before it is relied upon: cut short, this is done
//! again, with a generation higher still. Its frames follow a random nonce, so that nothing that lies in the
//! new ring can continue its chain.

use super::commit::RING_START;
use super::log::Journal;
use super::recover::{Own, Spec, age, own_checkpoint, own_checkpoints};
use super::ring::Ring;
use crate::env::join_all;
use crate::error::Result;
use crate::format::Tail;
use crate::member::Member;
use crate::units::{ArrayId, MemberId};
use std::sync::Arc;

/// Writes the checkpoint of an empty log to `members` (by number of the shard they hold), `others`, and
/// whoever else counts, durably.
pub async fn begin_anew(spec: Spec, members: &[(usize, Arc<Member>)], others: &[Arc<Member>]) -> Result<()> {
    let own = own_checkpoints(&spec, members, others).await?;
    let newest = own.iter().map(|o| o.newest).max_by_key(age);
    let (generation, seq) = newest.map_or((0, 1), |c| (c.generation + 1, c.tail.seq + 1));
    let mut nonce = [0; 8];
    spec.env.random(&mut nonce);
    let tail = Tail { seq, offset: 0, prev_nonce: u64::from_le_bytes(nonce) };
    let ring = Ring::new(spec.place.len - RING_START, tail);
    let journal = Journal::with_ring(spec, ring, generation, 0)?;
    journal.write_page(tail, generation).await?;
    journal.flush_everyone().await
}

/// Of `members`, which have their checkpoints at `offset`, those that have neither the newest nor the one
/// before it: older images of themselves.
pub async fn behind(array: ArrayId, members: &[Arc<Member>], offset: u64) -> Result<Vec<MemberId>> {
    let own = join_all(members.iter().map(|m| own_checkpoint(array, m, offset))).await;
    let own: Vec<Own> = own.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
    let newest = own.iter().map(|o| o.newest.generation).max().unwrap_or(0);
    let lacks = |o: &&Own| o.is_newest && newest - o.newest.generation > 1;
    Ok(own.iter().filter(lacks).map(|o| o.member).collect())
}
