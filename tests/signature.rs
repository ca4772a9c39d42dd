//! What is on a device is recognised: images made by the real tools, and for what needs a kernel
//! driver or another machine, structures written by hand as their documentation says.
//!
//! A tool that is not installed is passed over, unless `PALISADE_ALL_TOOLS` is set.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use palisade::env::{Buffer, BufferPool, Env, Environment, LocalFuture, Moment};
use palisade::error::{Error, ErrorKind, Result};
use palisade::format::Superblock;
use palisade::member::signature::{Found, detect};
use palisade::member::{Backend, Persistence, Presence, Span};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A file that can only be read.
struct Image {
    file: File,
    size_bytes: u64,
}

fn unsupported<T: 'static>() -> LocalFuture<'static, Result<T>> {
    Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "only reading")) })
}

impl Backend for Image {
    fn path(&self) -> &str {
        "image"
    }
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
    fn read(&self, offset_bytes: u64, mut buffer: Buffer) -> LocalFuture<'_, (Result<()>, Buffer)> {
        assert!(offset_bytes.is_multiple_of(4096) && buffer.len().is_multiple_of(4096));
        let result = self.file.read_exact_at(&mut buffer, offset_bytes).map_err(Error::from);
        Box::pin(async { (result, buffer) })
    }
    fn write(&self, _: u64, _: Vec<Bytes>, _: Persistence) -> LocalFuture<'_, Result<()>> {
        unsupported()
    }
    fn flush(&self) -> LocalFuture<'_, Result<()>> {
        unsupported()
    }
    fn punch(&self, _: u64, _: u64) -> LocalFuture<'_, Result<()>> {
        unsupported()
    }
    fn spans(&self, _: u64, _: u64) -> LocalFuture<'_, Result<Vec<Span>>> {
        unsupported()
    }
    fn probe(&self) -> LocalFuture<'_, Result<Presence>> {
        unsupported()
    }
}

struct Buffers(BufferPool);

impl Environment for Buffers {
    fn now(&self) -> Moment {
        Moment::default()
    }
    fn unix_seconds(&self) -> u64 {
        0
    }
    fn sleep(&self, _: Duration) -> LocalFuture<'static, ()> {
        unreachable!("looking takes no timer")
    }
    fn spawn(&self, _: LocalFuture<'static, ()>) {
        unreachable!("looking starts no task")
    }
    fn random(&self, _: &mut [u8]) {
        unreachable!("looking draws nothing")
    }
    fn buffers(&self) -> &BufferPool {
        &self.0
    }
}

fn look(path: &Path) -> Vec<Found> {
    let file = File::open(path).unwrap();
    let size_bytes = file.metadata().unwrap().len() / 4096 * 4096;
    let image = Image { file, size_bytes };
    let env = Env::new(Arc::new(Buffers(BufferPool::new(0))));
    let mut context = Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(detect(&image, &env)).poll(&mut context) {
        Poll::Ready(found) => found.unwrap(),
        Poll::Pending => unreachable!("a read of an image is ready at once"),
    }
}

fn names(path: &Path) -> Vec<String> {
    look(path).iter().map(Found::to_string).collect()
}

/// Whether the tool exists here.
fn has(tool: &str) -> bool {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = places.iter().any(|dir| Path::new(dir).join(tool).exists());
    assert!(found || std::env::var_os("PALISADE_ALL_TOOLS").is_none(), "{tool} is not installed");
    if !found {
        eprintln!("passed over: {tool} is not installed");
    }
    found
}

/// Runs a shell command in a folder with an empty image `d`, and says what is on it afterwards.
fn made_by(tool: &str, command: &str) -> Option<Vec<String>> {
    if !has(tool) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d");
    File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .args(["-ec", command])
        .current_dir(dir.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Some(names(&image))
}

#[test]
fn what_the_real_tools_made_is_named() {
    for (tool, command, expected) in [
        ("mkfs.ext4", "mkfs.ext4 -q -F d", &["an ext4 file system"][..]),
        ("mkfs.ext4", "mkfs.ext4 -q -F -t ext3 d", &["an ext3 file system"]),
        ("mkfs.ext4", "mkfs.ext4 -q -F -t ext2 d", &["an ext2 file system"]),
        ("mkfs.ext4", "mkfs.ext4 -q -F -O journal_dev d", &["an ext4 journal"]),
        ("mkfs.xfs", "mkfs.xfs -q d", &["an XFS file system"]),
        ("mkfs.btrfs", "mkfs.btrfs -q d", &["a btrfs file system"]),
        ("mkfs.f2fs", "mkfs.f2fs -q d", &["an F2FS file system"]),
        ("mkntfs", "mkntfs -F -Q -q d", &["an NTFS file system"]),
        ("mkfs.vfat", "mkfs.vfat d", &["a FAT file system"]),
        ("mkfs.vfat", "mkfs.vfat -F 32 d", &["a FAT file system"]),
        ("mkfs.exfat", "mkfs.exfat d", &["an exFAT file system"]),
        ("mkswap", "mkswap d", &["a swap area"]),
        ("mkswap", "mkswap -p 65536 d", &["a swap area"]),
        ("sfdisk", "echo 'label: dos\n,,83' | sfdisk -q d", &["an MBR partition table"]),
        ("sfdisk", "echo 'label: dos' | sfdisk -q d", &["a boot sector"]),
        ("sgdisk", "sgdisk -n 1:0:0 d", &["a GPT partition table", "the backup of a GPT partition table"]),
        (
            "sfdisk",
            "echo 'label: gpt' | sfdisk -q d; dd if=/dev/zero of=d bs=1M count=1 conv=notrunc",
            &["the backup of a GPT partition table"],
        ),
        (
            "cryptsetup",
            "echo x >k; cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 -d k d",
            &["a LUKS1 encrypted volume"],
        ),
        (
            "cryptsetup",
            "echo x >k; cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 -d k d",
            &["a LUKS2 encrypted volume", "the second header of a LUKS2 encrypted volume"],
        ),
        ("make-bcache", "make-bcache -B d", &["a bcache device"]),
        ("make-bcache", "make-bcache -C d", &["a bcache device"]),
        ("mksquashfs", "rm d; echo x >f; mksquashfs f d", &["a squashfs image"]),
        ("xorriso", "rm d; echo x >f; xorriso -as mkisofs -o d f", &["an ISO 9660 image"]),
        ("qemu-img", "qemu-img create -f qcow2 d 64M", &["a qcow2 disk image"]),
        ("qemu-img", "qemu-img create -f vmdk d 64M", &["a VMDK disk image"]),
        ("qemu-img", "qemu-img create -f vdi d 64M; truncate -s 1M d", &["a VDI disk image"]),
        ("qemu-img", "qemu-img create -f vhdx d 64M", &["a VHDX disk image"]),
        ("qemu-img", "qemu-img create -f vpc d 64M; truncate -s 1M d", &["a VHD disk image"]),
    ] {
        if let Some(found) = made_by(tool, command) {
            assert_eq!(found, expected, "after {command}");
        }
    }
}

/// An image of `size` bytes with some bytes put somewhere.
fn crafted(size: u64, patches: &[(u64, &[u8])]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("d");
    let file = File::create(&image).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in patches {
        file.write_all_at(bytes, *at).unwrap();
    }
    names(&image)
}

/// Not a multiple of 64 KiB, so that rounding of the end matters.
const SIZE: u64 = (64 << 20) + (12 << 10);

#[test]
fn what_no_tool_makes_here_is_recognised_by_its_documented_structure() {
    // struct mdp_super_1: magic, major_version; at 8K before the end, at 0, at 4K.
    let md1: &[u8] = &[0xFC, 0x4E, 0x2B, 0xA9, 1, 0, 0, 0];
    // struct mdp_superblock_s: md_magic, major_version 0, minor_version 90.
    let md0: &[u8] = &[0xFC, 0x4E, 0x2B, 0xA9, 0, 0, 0, 0, 90, 0, 0, 0];
    let md = "a member of a Linux md array";
    for (at, superblock) in [(0, md1), (4096, md1), (SIZE - 8192, md1), ((64 << 20) - 65536, md0)] {
        assert_eq!(crafted(SIZE, &[(at, superblock)]), [md], "at {at}");
    }
    // struct label_header of LVM2, in any of the first four sectors.
    for sector in 0..4 {
        let at = sector * 512;
        assert_eq!(crafted(SIZE, &[(at, b"LABELONE"), (at + 24, b"LVM2 001")]), ["an LVM physical volume"]);
    }
    // vdev_label: uberblocks in the second half of each of four labels, either endianness.
    let end = 64 << 20;
    for at in [128 << 10, 300 << 10, (256 << 10) + (128 << 10), end - (512 << 10) + (255 << 10), end - 1024] {
        for magic in [0x00BA_B10Cu64.to_le_bytes(), 0x00BA_B10Cu64.to_be_bytes()] {
            let inside_ring = at % (256 << 10) >= 128 << 10;
            let expected: &[&str] = if inside_ring { &["a member of a ZFS pool"] } else { &[] };
            assert_eq!(crafted(SIZE, &[(at, &magic)]), expected, "at {at}");
        }
    }
    for magic in [0x8374_026Bu32, 0x8374_026C, 0x8374_026D] {
        assert_eq!(crafted(SIZE, &[(SIZE - 4096 + 60, &magic.to_be_bytes())]), ["a DRBD device"]);
    }
    assert_eq!(crafted(SIZE, &[(0, b"bluestore block device\n")]), ["a Ceph BlueStore device"]);
}

#[test]
fn an_empty_device_of_any_size_holds_nothing() {
    for size in [0, 4096, 64 << 10, 1 << 20, (1 << 20) + 4096, 2 << 20, (2 << 20) + 4096, SIZE] {
        assert_eq!(crafted(size, &[]), Vec::<String>::new(), "{size} bytes");
    }
}

#[test]
fn noise_holds_nothing() {
    let mut state = 1u64;
    let noise: Vec<u8> = (0..SIZE / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state ^ state >> 29).to_le_bytes()
        })
        .collect();
    for size in [4096, 64 << 10, (1 << 20) + 4096, (2 << 20) + 4096, noise.len()] {
        assert_eq!(crafted(size as u64, &[(0, &noise[..size])]), Vec::<String>::new(), "{size} bytes");
    }
}

#[test]
fn two_stray_bytes_make_no_file_system() {
    assert_eq!(crafted(SIZE, &[(1024 + 56, &[0x53, 0xEF]), (1024 + 24, &[9])]), Vec::<String>::new());
}

#[test]
fn a_member_of_an_array_is_named_from_its_head_and_from_its_tail() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fresh.bin");
    let bytes = std::fs::read(golden).unwrap();
    let superblock = Superblock::parse(&bytes).unwrap();
    let expected = [format!("a member of palisade array tank ({})", superblock.array)];
    for at in Superblock::slot_offsets(superblock.member_bytes) {
        assert_eq!(crafted(superblock.member_bytes, &[(at, &bytes)]), expected, "copy at {at}");
        let torn = [(at, &bytes[..512])];
        assert_eq!(crafted(superblock.member_bytes, &torn), ["a damaged palisade superblock"]);
    }
    let both = [(4096, &bytes[..]), (0, b"XFSB")];
    assert_eq!(crafted(1 << 20, &both), [&expected[0], "an XFS file system"]);
}
