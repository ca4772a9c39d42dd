//! What is hard for a replay: changes of one stripe, close together, of which doing an older one
//! again must not undo a newer one.

use super::io::Request;
use super::workload::Step;
use palisade::env::sim::Prng;
use std::ops::Range;
use std::time::Duration;

/// Cases in one workload.
const CASES: usize = 4;

#[derive(Clone, Copy)]
enum Case {
    /// A small write as soon as the whole stripe's is answered.
    SmallAfterWhole,
    /// A small write while the whole stripe is being written.
    SmallDuringWhole,
    /// The whole stripe over a small write that is not home yet.
    WholeAfterSmall,
    WholeAgainAfterFlush,
    WholeAgain,
    /// The stripe goes, then a part of it is written.
    SmallAfterZero,
    /// The stripe goes and comes again.
    WholeZeroWhole,
    /// To a stripe that was never written: a part, the whole, the whole and a part.
    SmallIntoNew,
    WholeIntoNew,
    BothIntoNew,
}

const ALL: [Case; 10] = [
    Case::SmallAfterWhole,
    Case::SmallDuringWhole,
    Case::WholeAfterSmall,
    Case::WholeAgainAfterFlush,
    Case::WholeAgain,
    Case::SmallAfterZero,
    Case::WholeZeroWhole,
    Case::SmallIntoNew,
    Case::WholeIntoNew,
    Case::BothIntoNew,
];

/// Some of the cases, on a volume of which the stripes in `new` were never written.
pub fn steps(random: &mut Prng, stripe_bytes: u64, mut new: Range<u64>) -> Vec<Step> {
    let mut cases = ALL;
    random.shuffle(&mut cases);
    let old = new.start;
    let mut steps = Vec::new();
    for case in cases.into_iter().take(CASES) {
        let of_new = matches!(case, Case::SmallIntoNew | Case::WholeIntoNew | Case::BothIntoNew);
        let next = if of_new { new.next() } else { None };
        let number = next.unwrap_or_else(|| random.below(old));
        let stripe = Stripe { start: number * stripe_bytes, len: stripe_bytes };
        steps.extend(case.steps(random, stripe));
        if random.chance(300) {
            steps.push(alone(Request::Flush));
        }
    }
    steps
}

#[derive(Clone, Copy)]
struct Stripe {
    start: u64,
    len: u64,
}

impl Stripe {
    fn whole(self) -> Request {
        Request::Write { offset: self.start, len: self.len, durable: false, aligned: true }
    }

    /// A block of it, or a piece that is none.
    fn part(self, random: &mut Prng) -> Request {
        let block = self.start + random.below(self.len / 4096) * 4096;
        let durable = random.chance(200);
        match random.chance(700) {
            true => Request::Write { offset: block, len: 4096, durable, aligned: true },
            false => Request::Write { offset: block + 700, len: 2000, durable, aligned: false },
        }
    }

    fn gone(self, random: &mut Prng) -> Request {
        let (offset, len) = (self.start, self.len);
        match random.below(3) {
            0 => Request::Discard { offset, len },
            n => Request::Zero { offset, len, no_hole: n == 1, durable: false },
        }
    }
}

impl Case {
    fn steps(self, random: &mut Prng, stripe: Stripe) -> Vec<Step> {
        let whole = || alone(stripe.whole());
        match self {
            Self::SmallAfterWhole | Self::BothIntoNew => vec![whole(), alone(stripe.part(random))],
            Self::SmallDuringWhole => {
                let delay = Duration::from_micros(random.below(400));
                let both = vec![(stripe.whole(), Duration::ZERO), (stripe.part(random), delay)];
                vec![Step::Burst(both)]
            }
            Self::WholeAfterSmall => vec![alone(stripe.part(random)), whole()],
            Self::WholeAgainAfterFlush => vec![whole(), alone(Request::Flush), whole()],
            Self::WholeAgain => vec![whole(), whole()],
            Self::SmallAfterZero => vec![alone(stripe.gone(random)), alone(stripe.part(random))],
            Self::WholeZeroWhole => vec![whole(), alone(stripe.gone(random)), whole()],
            Self::SmallIntoNew => vec![alone(stripe.part(random))],
            Self::WholeIntoNew => vec![whole()],
        }
    }
}

/// One request, answered before the next begins.
pub fn alone(request: Request) -> Step {
    Step::Burst(vec![(request, Duration::ZERO)])
}
