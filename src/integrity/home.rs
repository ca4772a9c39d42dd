//! Whether a page in memory is on its members.

use super::pin::{Pinned, older};

/// Where a page stands.
///
/// ```text
///             change                begin                 done
///   Same ---------------> Dirty ------------> Writing ------------> Same
///                           ^                    |
///                           +---- change, failed +
/// ```
#[derive(Default)]
pub enum Home {
    /// The members have it as it is.
    #[default]
    Same,
    /// Changed since; the oldest frame that can redo the changes, if any is needed.
    Dirty(Option<Pinned>),
    /// On its way; the pin is kept by whoever writes it.
    Writing,
}

impl Home {
    /// The page was changed by the frame that `pin` keeps.
    pub fn change(&mut self, pin: Option<Pinned>) {
        *self = match std::mem::take(self) {
            Self::Dirty(old) => Self::Dirty(older(old, pin)),
            Self::Same | Self::Writing => Self::Dirty(pin),
        };
    }

    /// Begins to bring a changed page home: answers the pin to keep until that is done.
    pub fn begin(&mut self) -> Option<Option<Pinned>> {
        match std::mem::take(self) {
            Self::Dirty(pin) => {
                *self = Self::Writing;
                Some(pin)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// It is home, unless it was changed again meanwhile.
    pub fn done(&mut self) {
        if matches!(self, Self::Writing) {
            *self = Self::Same;
        }
    }

    /// Whether the members have it as it is.
    pub fn is_same(&self) -> bool {
        matches!(self, Self::Same)
    }

    /// Whether it must still be brought home by somebody.
    pub fn is_dirty(&self) -> bool {
        matches!(self, Self::Dirty(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::Pin;
    use std::sync::Arc;

    struct Frame(u64);

    impl Pin for Frame {
        fn seq(&self) -> u64 {
            self.0
        }
    }

    fn pin(seq: u64) -> Option<Pinned> {
        Some(Arc::new(Frame(seq)))
    }

    #[test]
    fn the_oldest_frame_is_kept_until_all_changes_are_home() {
        let mut home = Home::default();
        assert!(home.begin().is_none());
        for seq in [7, 5, 9] {
            home.change(pin(seq));
        }
        let kept = home.begin().flatten();
        assert_eq!(kept.as_ref().map(|p| p.seq()), Some(5));
        home.change(pin(11));
        home.done();
        assert!(home.is_dirty(), "it was changed while it was written");
        home.change(kept);
        assert_eq!(home.begin().flatten().map(|p| p.seq()), Some(5), "what failed is kept on");
        home.done();
        assert!(home.is_same());
    }
}
