//! What is demanded of the array after a crash.

/// How much of the promises P1 to P4 and P9 holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantees {
    /// Without a journal: what was being written while the machine went down may be lost together
    /// with a member, the array then starts only by force, and a write that fails half-way tears
    /// its stripe.
    Today,
    /// With it: up to m members may be lost before, during or after a crash, and every block is
    /// its last flushed value or one written since. The array starts without force. One thing is
    /// left: where whole stripes were being rewritten and members are lost, the read of a block of
    /// theirs may fail (P4) or, as there are no checksums yet, be wrong, until that block is
    /// written again.
    Journal,
}

/// What the tests demand, and the tool unless told otherwise. Set this to `Journal` with the journal.
pub const GUARANTEES: Guarantees = Guarantees::Journal;

impl Guarantees {
    /// The tool's option that asks for these, if they are not what it asks for anyway.
    pub fn option(self) -> &'static str {
        match self {
            _ if self == GUARANTEES => "",
            Self::Journal => " --journal",
            Self::Today => " --no-journal",
        }
    }
}

impl Default for Guarantees {
    fn default() -> Self {
        GUARANTEES
    }
}
