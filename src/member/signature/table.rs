//! The table of signatures: what, where, which bytes. Offsets are those of each format's own
//! documentation (and of `libblkid`, which reads the same places).

/// Where a structure begins on a device.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// So many bytes from the start.
    Start(u64),
    /// So many bytes before the end, the end first rounded down to a multiple of `align`.
    End { align: u64, back: u64 },
}

/// One thing to look for: all `magics` must match, each at its offset from the structure's start.
#[derive(Debug)]
pub(super) struct Signature {
    pub what: &'static str,
    pub place: Place,
    pub magics: &'static [(u64, &'static [u8])],
}

const fn start(what: &'static str, at: u64, magics: &'static [(u64, &'static [u8])]) -> Signature {
    Signature { what, place: Place::Start(at), magics }
}

const fn end(
    what: &'static str,
    align: u64,
    back: u64,
    magics: &'static [(u64, &'static [u8])],
) -> Signature {
    Signature { what, place: Place::End { align, back }, magics }
}

const SECTOR: u64 = 512;
const KIB: u64 = 1024;

const GPT: &str = "a GPT partition table";
const GPT_BACKUP: &str = "the backup of a GPT partition table";
const MD: &str = "a member of a Linux md array";
const MD_BYTES: &[u8] = &[0xFC, 0x4E, 0x2B, 0xA9];
const MD_BYTES_BIG: &[u8] = &[0xA9, 0x2B, 0x4E, 0xFC];
const MD_1: &[(u64, &[u8])] = &[(0, MD_BYTES), (4, &[1, 0, 0, 0])];
const LVM: &str = "an LVM physical volume";
const LVM_LABEL: &[(u64, &[u8])] = &[(0, b"LABELONE"), (24, b"LVM2 001")];
const FAT: &str = "a FAT file system";
const BOOT: (u64, &[u8]) = (510, &[0x55, 0xAA]);
const SWAP: &str = "a swap area";
const HIBERNATED: &str = "a hibernation image";
const LUKS: &str = "the second header of a LUKS2 encrypted volume";
const LUKS_SECOND: &[(u64, &[u8])] = &[(0, b"SKUL\xBA\xBE")];
const DRBD: &str = "a DRBD device";
const VHD: &str = "a VHD disk image";

pub(super) const TABLE: &[Signature] = &[
    // Partition tables; the MBR is in `special`.
    start(GPT, SECTOR, &[(0, b"EFI PART")]),
    start(GPT, 4 * KIB, &[(0, b"EFI PART")]),
    end(GPT_BACKUP, SECTOR, SECTOR, &[(0, b"EFI PART")]),
    end(GPT_BACKUP, 4 * KIB, 4 * KIB, &[(0, b"EFI PART")]),
    // File systems; ext2, ext3 and ext4 are in `special`.
    start("an XFS file system", 0, &[(0, b"XFSB")]),
    start("a btrfs file system", 64 * KIB, &[(64, b"_BHRfS_M")]),
    start("an F2FS file system", KIB, &[(0, &[0x10, 0x20, 0xF5, 0xF2])]),
    start("an NTFS file system", 0, &[(3, b"NTFS    ")]),
    start("a ReFS file system", 0, &[(3, b"ReFS\0")]),
    start("a BitLocker volume", 0, &[(3, b"-FVE-FS-")]),
    start("an exFAT file system", 0, &[(3, b"EXFAT   ")]),
    start(FAT, 0, &[(54, b"FAT12   "), BOOT]),
    start(FAT, 0, &[(54, b"FAT16   "), BOOT]),
    start(FAT, 0, &[(54, b"FAT     "), BOOT]),
    start(FAT, 0, &[(82, b"FAT32   "), BOOT]),
    start(
        "a bcachefs file system",
        4 * KIB,
        &[(24, b"\xC6\x85\x73\xF6\x66\xCE\x90\xA9\xD9\x6A\x60\xCF\x80\x3D\xF7\xEF")],
    ),
    start("a JFS file system", 32 * KIB, &[(0, b"JFS1")]),
    start("a ReiserFS file system", 64 * KIB, &[(52, b"ReIsEr")]),
    start("an EROFS file system", KIB, &[(0, &[0xE2, 0xE1, 0xF5, 0xE0])]),
    start("an APFS container", 0, &[(32, b"NXSB")]),
    start("an HFS+ file system", KIB, &[(0, b"H+\0\x04")]),
    start("an HFS+ file system", KIB, &[(0, b"HX\0\x05")]),
    start("a GFS2 file system", 64 * KIB, &[(0, &[0x01, 0x16, 0x19, 0x70])]),
    start("an ISO 9660 image", 32 * KIB, &[(1, b"CD001")]),
    start("a UDF image", 32 * KIB, &[(1, b"BEA01")]),
    start("a squashfs image", 0, &[(0, b"hsqs")]),
    // Swap ends its first page, whatever the page size.
    start(SWAP, 4 * KIB - 10, &[(0, b"SWAPSPACE2")]),
    start(SWAP, 8 * KIB - 10, &[(0, b"SWAPSPACE2")]),
    start(SWAP, 16 * KIB - 10, &[(0, b"SWAPSPACE2")]),
    start(SWAP, 32 * KIB - 10, &[(0, b"SWAPSPACE2")]),
    start(SWAP, 64 * KIB - 10, &[(0, b"SWAPSPACE2")]),
    start(SWAP, 4 * KIB - 10, &[(0, b"SWAP-SPACE")]),
    start(HIBERNATED, 4 * KIB - 10, &[(0, b"S1SUSPEND")]),
    start(HIBERNATED, 4 * KIB - 10, &[(0, b"S2SUSPEND")]),
    start(HIBERNATED, 4 * KIB - 10, &[(0, b"LINHIB0001")]),
    // Encryption.
    start("a LUKS1 encrypted volume", 0, &[(0, b"LUKS\xBA\xBE\0\x01")]),
    start("a LUKS2 encrypted volume", 0, &[(0, b"LUKS\xBA\xBE\0\x02")]),
    start(LUKS, 16 * KIB, LUKS_SECOND),
    start(LUKS, 32 * KIB, LUKS_SECOND),
    start(LUKS, 64 * KIB, LUKS_SECOND),
    start(LUKS, 128 * KIB, LUKS_SECOND),
    start(LUKS, 256 * KIB, LUKS_SECOND),
    start(LUKS, 512 * KIB, LUKS_SECOND),
    // Volume managers and other RAIDs; ZFS and palisade itself are in `special`.
    start(LVM, 0, LVM_LABEL),
    start(LVM, SECTOR, LVM_LABEL),
    start(LVM, 2 * SECTOR, LVM_LABEL),
    start(LVM, 3 * SECTOR, LVM_LABEL),
    start(MD, 0, MD_1),
    start(MD, 4 * KIB, MD_1),
    end(MD, 4 * KIB, 8 * KIB, MD_1),
    end(MD, 64 * KIB, 64 * KIB, &[(0, MD_BYTES), (4, &[0, 0, 0, 0])]),
    end(MD, 64 * KIB, 64 * KIB, &[(0, MD_BYTES_BIG), (4, &[0, 0, 0, 0])]),
    end("a member of an Intel RAID", SECTOR, 2 * SECTOR, &[(0, b"Intel Raid ISM Cfg Sig. ")]),
    end("a member of a DDF RAID", SECTOR, SECTOR, &[(0, &[0xDE, 0x11, 0xDE, 0x11])]),
    end("a member of a DDF RAID", SECTOR, SECTOR, &[(0, &[0x11, 0xDE, 0x11, 0xDE])]),
    start(
        "a bcache device",
        4 * KIB,
        &[(24, b"\xC6\x85\x73\xF6\x4E\x1A\x45\xCA\x82\x65\xF5\x7F\x48\xBA\x6D\x81")],
    ),
    start("a Ceph BlueStore device", 0, &[(0, b"bluestore block device\n")]),
    start("a Stratis block device", SECTOR, &[(4, b"!Stra0tis\x86\xFF\x02^\x41rh")]),
    start("a VDO device", 0, &[(0, b"dmvdo001")]),
    end(DRBD, 4 * KIB, 4 * KIB, &[(60, &[0x83, 0x74, 0x02, 0x6B])]),
    end(DRBD, 4 * KIB, 4 * KIB, &[(60, &[0x83, 0x74, 0x02, 0x6C])]),
    end(DRBD, 4 * KIB, 4 * KIB, &[(60, &[0x83, 0x74, 0x02, 0x6D])]),
    // Disk images of virtual machines.
    start("a qcow2 disk image", 0, &[(0, b"QFI\xFB")]),
    start("a VMDK disk image", 0, &[(0, b"KDMV")]),
    start("a VDI disk image", 0, &[(64, &[0x7F, 0x10, 0xDA, 0xBE])]),
    start("a VHDX disk image", 0, &[(0, b"vhdxfile")]),
    start(VHD, 0, &[(0, b"conectix")]),
    end(VHD, SECTOR, SECTOR, &[(0, b"conectix")]),
];
