"""RAID in the kernel: btrfs and md over loop devices. fio uses them without NBD in between."""
import os, time

from .servers import DATA, PARITY
from .system import GIB, run

MEMBERS = DATA + PARITY


class Kernel:
    """Nothing of it is a process, so nobody's CPU time is known."""

    def where(self):
        return ["--ioengine=io_uring", "--direct=1", f"--filename={self.file}"]

    def cpu_s(self):
        return None

    def grow_loops(self, scratch, bytes_, folder):
        """Twice what is stored: btrfs never writes in place."""
        self.scratch = scratch
        self.members = scratch.members(self.key, MEMBERS, bytes_ // DATA * 2 + GIB, True, folder)

    def loops(self, without=()):
        return [loop for i, (_, loop) in enumerate(self.members) if i not in without]


class Btrfs(Kernel):
    """With checksums and copy on write, as it comes; metadata in as many copies as the level may lose and one."""
    tools = ("btrfs", "mkfs.btrfs", "losetup", "mount", "umount")
    space = 1.75

    def __init__(self, bench, bytes_, key, level, parity, folder):
        self.key, self.label, self.bytes, self.parity = key, f"btrfs RAID {level}", bytes_, parity
        self.grow_loops(bench.scratch, bytes_, folder)
        run("mkfs.btrfs", "-q", "-f", "-d", f"raid{level}", "-m", "raid1c3" if parity > 1 else "raid1", *self.loops())
        self.folder = f"{bench.scratch.runtime}/{key}"
        os.mkdir(self.folder)
        self.file = f"{self.folder}/file"
        self.scratch.finally_(self.unmount)
        self.mount()

    def mount(self, without=(), options=()):
        present = self.loops(without)
        options = ["noatime", *options, *(f"device={loop}" for loop in present)]
        run("mount", "-t", "btrfs", "-o", ",".join(options), present[0], self.folder)

    def unmount(self):
        if os.path.ismount(self.folder):
            run("umount", self.folder)

    def settle(self):
        run("btrfs", "filesystem", "sync", self.folder)

    def lose(self, lost, *options):
        """Mounts it anew without these members: their devices are gone."""
        self.unmount()
        for i in lost:
            image, loop = self.members[i]
            if loop:
                self.scratch.unloop(loop)
                self.members[i] = (image, None)
        run("btrfs", "device", "scan", "--forget")
        self.mount(lost, [*(["degraded"] if lost else []), *options])

    def degraded(self, lost):
        """Read-only, so that the lost ones are still current when they come back."""
        self.lose(lost, "ro")

    def whole_again(self, lost):
        self.unmount()
        for i in lost:
            image = self.members[i][0]
            self.members[i] = (image, self.scratch.loop(image))
        run("btrfs", "device", "scan", "--forget")
        self.mount()

    def rebuild(self, slot):
        """Loses a member and fills another; answers the seconds that took."""
        old = self.members[slot][0]
        self.lose([slot])
        image = self.scratch.image(old + "+", os.stat(old).st_size)
        loop = self.scratch.loop(image)
        begin = time.monotonic()
        run("btrfs", "replace", "start", "-B", "-f", slot + 1, loop, self.folder)
        spent = time.monotonic() - begin
        os.unlink(old)
        self.members[slot] = (image, loop)
        self.lose([])
        return spent

    def scrub(self):
        """Answers what is stored, parity included, and the seconds."""
        begin = time.monotonic()
        run("btrfs", "scrub", "start", "-B", self.folder)
        return self.bytes * MEMBERS // (MEMBERS - self.parity), time.monotonic() - begin


class Md(Kernel):
    """RAID 6 without a bitmap; neither checksums nor a closed write hole."""
    key, label, tools, space = "md", "Linux md RAID 6", ("mdadm", "losetup", "blockdev"), 1.5
    parity = PARITY

    def __init__(self, bench, bytes_):
        self.bytes = bytes_
        self.grow_loops(bench.scratch, bytes_, None)
        self.file = f"/dev/md/plsd-{os.getpid()}"
        self.scratch.finally_(self.stop)
        # The fill writes all that is used, so its parity need not be computed first.
        run("mdadm", "--create", self.file, "--run", "--level=6", f"--raid-devices={MEMBERS}", "--chunk=64K",
            "--assume-clean", "--bitmap=none", *self.loops())

    @staticmethod
    def absence():
        """Why it cannot be measured here; None if it can."""
        if not os.path.exists("/proc/mdstat"):
            return "the running kernel has no md"
        return None

    def stop(self):
        if os.path.exists(self.file):
            run("mdadm", "--stop", self.file)

    def settle(self):
        run("blockdev", "--flushbufs", self.file)

    def degraded(self, lost):
        self.stop()
        run("mdadm", "--assemble", "--run", "--readonly", self.file, *self.loops(lost))

    def whole_again(self, _lost):
        self.stop()
        run("mdadm", "--assemble", self.file, *self.loops())
