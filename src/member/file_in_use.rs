//! Who uses a file or device already: mounts, swap, loop devices, stacked devices, locks. All by
//! what the kernel says in /proc and /sys.

use super::file_open::{identity_of, numbers};
use crate::error::{Error, Result};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A block device as the kernel counts it: major and minor.
type Numbers = (u64, u64);

/// How the file or device at `path` is in use by the kernel ("mounted on /srv"), if it is: the
/// device itself, one of its partitions, or a loop device over the file.
pub fn is_mounted(path: &Path) -> Result<Option<String>> {
    let meta = fs::metadata(path)
        .map_err(|e| Error::io("cannot look at it", e).member(path.display().to_string()))?;
    if swaps().iter().any(|swap| fs::metadata(swap).is_ok_and(|m| identity_of(&m) == identity_of(&meta))) {
        return Ok(Some("used as swap".into()));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = parse_mounts(&mounts);
    if meta.file_type().is_block_device() {
        return Ok(device_use(numbers(meta.rdev()), &mounts));
    }
    let attached = loops_over(path).into_iter().next();
    Ok(attached.map(|(name, device)| {
        let how = device_use(device, &mounts).unwrap_or_else(|| "not mounted".into());
        format!("attached to /dev/{name}, {how}")
    }))
}

fn device_use(device: Numbers, mounts: &[Mount]) -> Option<String> {
    let folder = PathBuf::from(format!("/sys/dev/block/{}:{}", device.0, device.1));
    let mut all = vec![(String::new(), device, folder.clone())];
    for entry in list(&folder) {
        let folder = folder.join(&entry);
        if folder.join("partition").exists()
            && let Some(number) = read_numbers(&folder.join("dev"))
        {
            all.push((format!("its partition {entry} is "), number, folder));
        }
    }
    let swapped: Vec<Numbers> = swaps()
        .iter()
        .filter_map(|s| fs::metadata(s).ok())
        .filter(|m| m.file_type().is_block_device())
        .map(|m| numbers(m.rdev()))
        .collect();
    for (whose, device, folder) in all {
        if let Some(mount) = mounts.iter().find(|m| m.is_of(device)) {
            return Some(format!("{whose}mounted on {}", mount.place));
        }
        if swapped.contains(&device) {
            return Some(format!("{whose}used as swap"));
        }
        if let Some(holder) = list(&folder.join("holders")).first() {
            return Some(format!("{whose}used by /dev/{holder}"));
        }
    }
    None
}

fn list(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn read_numbers(file: &Path) -> Option<Numbers> {
    parse_numbers(fs::read_to_string(file).ok()?.trim())
}

fn parse_numbers(text: &str) -> Option<Numbers> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Loop devices whose backing file is this one.
fn loops_over(path: &Path) -> Vec<(String, Numbers)> {
    let Ok(path) = fs::canonicalize(path) else { return Vec::new() };
    let backed = |name: &String| {
        let file = format!("/sys/block/{name}/loop/backing_file");
        fs::read_to_string(file).is_ok_and(|b| Path::new(b.trim_end_matches('\n')) == path)
    };
    let names = list(Path::new("/sys/block")).into_iter();
    names
        .filter(|n| n.starts_with("loop"))
        .filter(backed)
        .filter_map(|n| {
            let device = read_numbers(Path::new(&format!("/sys/block/{n}/dev")))?;
            Some((n, device))
        })
        .collect()
}

struct Mount {
    device: Numbers,
    place: String,
    source: String,
}

impl Mount {
    /// File systems over several devices have a number of their own; their source names one.
    fn is_of(&self, device: Numbers) -> bool {
        self.device == device
            || self.source.starts_with('/')
                && fs::metadata(&self.source)
                    .is_ok_and(|m| m.file_type().is_block_device() && numbers(m.rdev()) == device)
    }
}

/// `36 35 98:0 /root /mnt options [more]* - type source options`, see proc(5).
fn parse_mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let device = parse_numbers(left.next()?)?;
        let place = unescape(left.nth(1)?);
        Some(Mount { device, place, source: unescape(right.split(' ').nth(1)?) })
    };
    text.lines().filter_map(mount).collect()
}

fn swaps() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    text.lines().skip(1).filter_map(|l| l.split_whitespace().next()).map(|p| unescape(p).into()).collect()
}

/// Undoes the kernel's `\040` for a space and the like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Who holds a lock on the file: "process 1234 (qemu-nbd)".
pub(super) fn lock_holder(meta: &Metadata) -> Option<String> {
    let text = fs::read_to_string("/proc/locks").ok()?;
    let pid = parse_lock_holder(&text, numbers(meta.dev()), meta.ino())?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Some(match name.as_deref().map(str::trim) {
        Some(name) if !name.is_empty() => format!("process {pid} ({name})"),
        _ => format!("process {pid}"),
    })
}

/// `1: FLOCK ADVISORY WRITE 1234 fd:00:2531452 0 EOF`, see proc(5); no number for a lock of an
/// open file description.
fn parse_lock_holder(text: &str, device: Numbers, inode: u64) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{inode}", device.0, device.1);
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let at = fields.iter().position(|f| *f == place)?;
        fields.get(at.checked_sub(1)?)?.parse().ok().filter(|pid| *pid != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read_as_documented() {
        let mounts = parse_mounts(
            "36 35 98:0 /mnt1 /mnt/my\\040disk rw,noatime master:1 - ext3 /dev/root rw\n\
             30 1 254:0 / / rw - ext4 /dev/vda rw\nnonsense\n- - -\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].device, mounts[0].place.as_str()), ((98, 0), "/mnt/my disk"));
        assert_eq!((mounts[1].place.as_str(), mounts[1].source.as_str()), ("/", "/dev/vda"));
        let locks = "1: POSIX  ADVISORY  WRITE 77 fe:00:12 0 EOF\n2: OFDLCK ADVISORY  WRITE -1 fe:00:34 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 99 fe:00:34 0 EOF\n3: -> FLOCK  ADVISORY WRITE 100 fe:00:35 0 EOF\n";
        assert_eq!(parse_lock_holder(locks, (0xfe, 0), 34), Some(99));
        assert_eq!(parse_lock_holder(locks, (0xfe, 0), 35), Some(100));
        assert_eq!(parse_lock_holder(locks, (0xfe, 0), 36), None);
        assert_eq!(unescape("\\134a\\0\\"), "\\a\\0\\");
    }

    #[test]
    fn the_device_of_the_root_file_system_is_known_to_be_mounted() {
        let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap());
        let root = mounts.iter().rfind(|m| m.place == "/").unwrap();
        assert_eq!(device_use(root.device, &mounts).unwrap(), "mounted on /");
    }
}
