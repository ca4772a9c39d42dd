//! Anything that can be written is read back; nothing that is read panics.

use super::*;
use proptest::prelude::*;

/// More blocks than any volume has: 2^63 bytes.
const BLOCKS_MAX: u64 = (1 << 51) - 1;

prop_compose! {
    fn any_header()(
        data in 1u8..=200, parity in 1u8..=55, shard in any::<u8>(), id in any::<[u8; 16]>(),
        seq in 0..u64::MAX, nonces in any::<[u64; 2]>(), page in 0u64..1 << 50,
        payload_len in 0..=MAX_PAYLOAD_BYTES, crcs in any::<[u32; 2]>(),
    ) -> FrameHeader {
        FrameHeader {
            array: ArrayId::from_random(id),
            seq,
            nonce: nonces[0],
            prev_nonce: nonces[1],
            offset: page * FRAME_ALIGN_BYTES,
            payload_len: payload_len as u32,
            payload_crc: crcs[0],
            data,
            parity,
            shard: shard % (data + parity),
            shard_len: shard_len_for(payload_len, usize::from(data)) as u32,
            shard_crc: crcs[1],
        }
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let version = 0..u64::MAX;
    let piece = (0..BLOCKS_MAX, 0..u64::MAX, any::<u32>());
    let piece = piece.prop_map(|(block, version, crc)| Piece { block, version, crc });
    let row = (any::<u8>(), any::<u32>(), any::<u8>()).prop_map(|(shard, row_block, fill)| ParityRow {
        shard,
        row_block,
        bytes: block(fill),
    });
    let data = (version, 0..BLOCKS_MAX - 4, 1usize..=4, any::<u8>()).prop_map(|(version, block, n, fill)| {
        Record::Data { version, block, bytes: Bytes::from(vec![fill; n * BLOCK]) }
    });
    let rows = prop::collection::vec(row, 0..4);
    let parity = (0..BLOCKS_MAX, any::<(bool, bool)>(), prop::collection::vec(piece, 0..9), rows).prop_map(
        |(stripe, (fresh, bare), pieces, rows)| {
            Record::Parity(ParityRecord { stripe, fresh, bare, pieces, rows })
        },
    );
    let crcs = prop::collection::vec(any::<u32>(), 1..9);
    let same = prop::option::of(prop::collection::vec(any::<bool>(), 40));
    let open = (0..BLOCKS_MAX - 4, 1usize..=5, any::<u64>(), any::<bool>(), crcs, same).prop_map(
        |(first_stripe, count, up_to_version, fresh, crcs, same)| {
            let crcs = crcs.repeat(count);
            let same = same.map_or_else(Vec::new, |same| same[..crcs.len()].to_vec());
            Record::Open(OpenRecord { first_stripe, count: count as u64, up_to_version, fresh, crcs, same })
        },
    );
    let zero =
        (0..BLOCKS_MAX, any::<u64>(), any::<u64>()).prop_map(|(first_stripe, count, up_to_version)| {
            let count = count % (BLOCKS_MAX - first_stripe) + 1;
            Record::Zero { first_stripe, count, up_to_version }
        });
    prop_oneof![data, parity, open, zero]
}

proptest! {
    #[test]
    fn a_header_is_read_back_as_it_was_written(header in any_header()) {
        let bytes = header.encode();
        prop_assert_eq!(FrameHeader::decode(&bytes).unwrap(), header);
        let footprint = footprint_for(header.payload_len as usize, usize::from(header.data));
        prop_assert_eq!(header.footprint(), footprint);
        prop_assert!(footprint.is_multiple_of(FRAME_ALIGN_BYTES));
    }

    #[test]
    fn a_checkpoint_is_read_back_as_it_was_written(
        id in any::<[u8; 16]>(), generation in 0..u64::MAX, seq in 0..u64::MAX,
        page in 0u64..1 << 51, prev_nonce in any::<u64>(),
    ) {
        let tail = Tail { seq, offset: page * FRAME_ALIGN_BYTES, prev_nonce };
        let checkpoint = Checkpoint { array: ArrayId::from_random(id), generation, tail };
        prop_assert_eq!(Checkpoint::decode(&checkpoint.encode(), checkpoint.array).unwrap(), checkpoint);
    }

    #[test]
    fn records_are_read_back_as_they_were_written(said in prop::collection::vec(any_record(), 0..6)) {
        prop_assert_eq!(records(payload(&said)).unwrap(), said);
    }

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 1..2 * CHECKPOINT_BYTES)) {
        prop_assert!(FrameHeader::decode(&bytes).is_err());
        prop_assert!(Checkpoint::decode(&bytes, array()).is_err());
        let _ = records(bytes.into());
    }

    #[test]
    fn random_fields_under_a_right_checksum_never_panic(
        at in 8usize..FRAME_HEADER_BYTES - 16, bytes in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        if let Ok(header) = FrameHeader::decode(&forged(&header(0).encode(), at, &bytes)) {
            prop_assert_eq!(FrameHeader::decode(&header.encode()).unwrap(), header);
        }
        if let Ok(page) = Checkpoint::decode(&forged(&checkpoint().encode(), at, &bytes), array()) {
            prop_assert_eq!(Checkpoint::decode(&page.encode(), array()).unwrap(), page);
        }
    }

    #[test]
    fn changed_records_never_panic_and_what_parses_is_written_again(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = payload(&said()).to_vec();
        // Mostly where the numbers are, as blocks say nothing to the parser.
        let numbers: Vec<_> = (0..24).chain(4120..4200).chain(8296..8552).collect();
        for (at, value) in edits {
            bytes[*at.get(&numbers)] = value;
        }
        if let Ok(parsed) = records(bytes.into()) {
            prop_assert_eq!(records(payload(&parsed)).unwrap(), parsed);
        }
    }
}
