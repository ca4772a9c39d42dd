//! Pages of an epoch map that is written, torn, misdirected and damaged sector by sector, as the input
//! says, next to a plain list of what each sector should hold. Every sector must read as what was last
//! written to it, or bad if something else happened to it since.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade::format::{
    PAGE_ENTRIES, PageKind, SECTOR_ENTRIES, SECTORS_PER_PAGE, Sector, decode_page, encode_page,
};
use palisade::units::{ArrayId, MemberId};

const PAGE: usize = 4096;
const SECTOR: usize = PAGE / SECTORS_PER_PAGE;
const PAGES: usize = 3;
const SECTORS: usize = PAGES * SECTORS_PER_PAGE;
const ID: [u8; 16] = [0x51; 16];

/// Whose map it is.
fn kind() -> PageKind {
    PageKind::Epochs(ArrayId::from_bytes(ID))
}

/// The area as bytes, and what it should say.
struct Area {
    bytes: [u8; PAGES * PAGE],
    expected: [Sector; SECTORS],
}

fuzz_target!(|data: &[u8]| {
    let mut area = Area { bytes: [0; PAGES * PAGE], expected: [Sector::Blank; SECTORS] };
    for (step, op) in (1u32..).zip(data.chunks_exact(4)) {
        let (at, other) = (usize::from(op[1]) % SECTORS, usize::from(op[2]) % SECTORS);
        match op[0] % 5 {
            0 => area.write(kind(), at / SECTORS_PER_PAGE, op[2], step, op[3]),
            1 => area.write(
                PageKind::Checksums(MemberId::from_bytes(ID)),
                at / SECTORS_PER_PAGE,
                op[2],
                step,
                op[3],
            ),
            2 => area.copy(at, other),
            3 => area.damage(at, usize::from(op[2]) * 2 + usize::from(op[3] & 1), op[3] >> 1),
            _ => area.clear(at),
        }
        area.check();
    }
});

impl Area {
    /// Writes the sectors of a page that `mask` has: those of a torn page, or all.
    fn write(&mut self, whose: PageKind, page: usize, mask: u8, generation: u32, fill: u8) {
        let mut entries = [0; PAGE_ENTRIES];
        for (n, entry) in (0u32..).zip(&mut entries) {
            *entry = u32::from(fill).wrapping_mul(0x9E37_79B9) ^ n;
        }
        let bytes = encode_page(whose, page as u64, &[generation; SECTORS_PER_PAGE], &entries);
        for place in (0..SECTORS_PER_PAGE).filter(|place| mask >> place & 1 == 1) {
            let sector = page * SECTORS_PER_PAGE + place;
            self.bytes[sector * SECTOR..][..SECTOR].copy_from_slice(&bytes[place * SECTOR..][..SECTOR]);
            let mut own = [0; SECTOR_ENTRIES];
            own.copy_from_slice(&entries[place * SECTOR_ENTRIES..][..SECTOR_ENTRIES]);
            self.expected[sector] =
                if whose == kind() { Sector::Good { generation, entries: own } } else { Sector::Bad };
        }
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.bytes.copy_within(from * SECTOR..(from + 1) * SECTOR, to * SECTOR);
        if from != to {
            // Zeroes are zeroes wherever they come from; what was bad may be good where it belongs.
            match self.expected[from] {
                Sector::Blank => self.expected[to] = Sector::Blank,
                Sector::Good { .. } => self.expected[to] = Sector::Bad,
                Sector::Bad => self.expected[to] = self.found()[to],
            }
        }
    }

    fn damage(&mut self, sector: usize, at: usize, change: u8) {
        self.bytes[sector * SECTOR + at] ^= change;
        if change != 0 {
            // Damage may undo itself; it never makes something that was not written.
            let found = self.found()[sector];
            if self.expected[sector] != Sector::Bad {
                assert_eq!(found, Sector::Bad);
            }
            self.expected[sector] = found;
        }
    }

    fn clear(&mut self, sector: usize) {
        self.bytes[sector * SECTOR..][..SECTOR].fill(0);
        self.expected[sector] = Sector::Blank;
    }

    fn found(&self) -> Vec<Sector> {
        let pages = (0u64..).zip(self.bytes.chunks_exact(PAGE));
        pages
            .flat_map(|(index, page)| decode_page(kind(), index, page).expect("a page of the right length"))
            .collect()
    }

    fn check(&self) {
        assert!(self.found()[..] == self.expected);
    }
}
