"""What the disk gives when six files are used with nothing in between: the limits that palisade is measured by."""
from .fio import FILL, Fio, Job
from .servers import DATA, PARITY
from .system import MIB

MEMBERS = DATA + PARITY
# As many requests at once for each file as a busy array has.
DEPTH_4K, DEPTH_1M = 32, 8


class Raw:
    """Six files, each as large as what a member stores."""
    key, label, tools, space, count = "raw", "the disk", (), MEMBERS / DATA, MEMBERS

    def __init__(self, bench, bytes_):
        self.bytes = bytes_ // DATA
        self.files = [bench.scratch.image(f"{bench.scratch.disk}/{self.key}{i}", self.bytes) for i in range(MEMBERS)]
        self.each([FILL] * MEMBERS)

    def settle(self):
        """It is written without a cache."""

    def each(self, jobs, **how):
        """Runs the first job on the first file, the second on the second, at once."""
        args = []
        for i, (job, file) in enumerate(zip(jobs, self.files)):
            where = ["--ioengine=io_uring", "--direct=1", f"--filename={file}"]
            args += [f"--name=j{i}", *job.args(where, self.bytes, **how)[1:]]
        return Fio([arg for arg in args if arg != "--group_reporting"]).finish()

    def rates(self, job, seconds):
        """Of six files together."""
        jobs = self.each([job] * MEMBERS, seconds=seconds)
        side = "read" if "read" in job.rw else "write"
        return {"iops": sum(j[side]["iops"] for j in jobs), "mib_s": sum(j[side]["bw_bytes"] for j in jobs) / MIB}

    def small_writes(self, seconds):
        """Blocks per second if each is read, modified and written with its parity: 1 + m reads and as many writes."""
        read = self.rates(Job("randread", "4k", DEPTH_4K), seconds)["iops"]
        write = self.rates(Job("randwrite", "4k", DEPTH_4K), seconds)["iops"]
        moved = 1 + PARITY
        return {"iops": 1 / (moved / read + moved / write), "read_iops": read, "write_iops": write}

    def _until_all_is_moved(self, jobs):
        done = self.each(jobs)
        return max(j[side]["runtime"] for j in done for side in ("read", "write")) / 1000

    def rebuild(self):
        """Bytes of one member per second, when k are read from end to end and one is written."""
        jobs = [Job("read", "1m", DEPTH_1M)] * DATA + [Job("write", "1m", DEPTH_1M)]
        return {"mib_s": self.bytes / MIB / self._until_all_is_moved(jobs)}

    def scrub(self):
        """Bytes of all members per second, when all are read."""
        spent = self._until_all_is_moved([Job("read", "1m", DEPTH_1M)] * MEMBERS)
        return {"mib_s": self.bytes * MEMBERS / MIB / spent}
