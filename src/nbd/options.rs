//! The data of options, parsed; pure.

use super::wire::{ALLOCATION, Fields, MAX_STRING_BYTES, text};

/// `INFO` and `GO`: which export, and what to tell about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InfoRequest<'a> {
    pub name: &'a str,
    pub wanted: Vec<u16>,
}

impl<'a> InfoRequest<'a> {
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(data);
        let name = fields.string()?;
        let count = fields.u16()?;
        let wanted = (0..count).map(|_| fields.u16()).collect::<Option<Vec<_>>>()?;
        fields.is_empty().then_some(Self { name, wanted })
    }
}

/// `LIST_META_CONTEXT` and `SET_META_CONTEXT`: which export, and which contexts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextRequest<'a> {
    pub name: &'a str,
    /// There were no queries at all.
    pub empty: bool,
    /// A query named `base:allocation`.
    pub allocation: bool,
    /// A query asked for everything in `base:`.
    pub wildcard: bool,
}

impl<'a> ContextRequest<'a> {
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(data);
        let name = fields.string()?;
        let count = fields.u32()?;
        let mut request = Self { name, empty: count == 0, allocation: false, wildcard: false };
        for _ in 0..count {
            // A query in a namespace that is not ours is ignored, whatever it says.
            let len = usize::try_from(fields.u32()?).ok()?;
            let query = fields.bytes(len)?;
            if len > MAX_STRING_BYTES {
                return None;
            }
            request.allocation |= query == ALLOCATION.as_bytes();
            request.wildcard |= query == b"base:";
        }
        fields.is_empty().then_some(request)
    }
}

/// `EXPORT_NAME`: all of the data is the name.
pub(super) fn export_name(data: &[u8]) -> Option<&str> {
    text(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_truncation_of_an_option_is_refused() {
        let go = [&[0, 0, 0, 3][..], b"abc", &[0, 2, 0, 3, 0, 1]].concat();
        assert_eq!(InfoRequest::parse(&go), Some(InfoRequest { name: "abc", wanted: vec![3, 1] }));
        let set = [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 15][..], b"base:allocation"].concat();
        assert!(ContextRequest::parse(&set).unwrap().allocation);
        for end in 0..go.len() {
            assert_eq!(InfoRequest::parse(&go[..end]), None);
        }
        for end in 0..set.len() {
            assert_eq!(ContextRequest::parse(&set[..end]), None);
        }
        assert_eq!(InfoRequest::parse(&[&go[..], &[0]].concat()), None, "bytes after the end");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = InfoRequest::parse(&data);
            let _ = ContextRequest::parse(&data);
            let _ = export_name(&data);
        }
    }
}
