"""What is asked of palisade, and whether it holds. Every value is a ratio of two figures of one round, or a
figure of palisade's own; the median of the rounds counts."""
import dataclasses, statistics
from typing import Callable

from .codec import OPERATIONS, SHAPES


@dataclasses.dataclass(frozen=True)
class Target:
    row: str
    what: str
    goal: str
    limit: float
    at_least: bool
    unit: str
    # Called with a function (row, peer, metric) that answers this round's figure.
    value: Callable


def ratio(row, what, limit, peer, metric, other, own="palisade"):
    """Of a figure of palisade to that of a peer, in the same row and round."""
    return Target(row, what, f"at least {limit:g} x {other}", limit, True, "x",
                  lambda get: get(row, own, metric) / get(row, peer, metric))


def codec(operation, own, peer, name):
    """The worst of all shapes."""
    rows = [f"{operation} {shape}" for shape in SHAPES]
    engine = "portable engine, " if own == "codec-portable" else ""
    return Target(rows[0], f"{engine}{operation}, one thread, worst of {', '.join(SHAPES)}", f"at least 1 x {name}", 1,
                  True, "x", lambda get: min(get(row, own, "gb_s") / get(row, peer, "gb_s") for row in rows))


QEMU, LIMIT, BTRFS = "qemu-nbd on one raw file", "the disk's limit", "btrfs RAID 6, both on loops"
MEMORY = "nbdkit memory"


def targets(on_loops):
    """`on_loops`: the palisade that stands on loop devices like btrfs."""
    small = "4K random write answered after a pause,"
    return [
        ratio("read4k-q16x4", "4K random read, q16 x 4", 1.2, "qemu", "iops", QEMU),
        Target("read4k-q16x4", "4K random read, q16 x 4: CPU of the server per request", "under 8 us", 8, False, "us",
               lambda get: get("read4k-q16x4", "palisade", "cpu_us")),
        ratio("read4k-q1", "4K random read, q1", 1.0, "qemu", "iops", QEMU),
        ratio("burst-q16x1", f"{small} q16 x 1", 1.5, "qemu", "iops", QEMU),
        ratio("burst-q16x1", f"{small} q16 x 1", 10, "btrfs6", "iops", BTRFS, on_loops),
        ratio("burst-q16x4", f"{small} q16 x 4", 1.5, "qemu", "iops", QEMU),
        ratio("burst-q16x4", f"{small} q16 x 4", 10, "btrfs6", "iops", BTRFS, on_loops),
        ratio("sustained", "4K random write that lasts, q16 x 4", 1.0, "raw", "iops", "the disk's read-modify-writes"),
        ratio("zipf", "the same, zipf 0.99", 3, "raw", "iops", "the disk's read-modify-writes"),
        ratio("write1m", "1M sequential write", 0.85, "raw", "mib_s", "six raw files x k/n"),
        ratio("read1m", "1M sequential read", 1.0, "qemu", "mib_s", QEMU),
        *(Target(f"degraded-{n}", f"1M sequential read, {word} lost", "at least 0.6 x healthy", 0.6, True, "x",
                 lambda get, n=n: get(f"degraded-{n}", "palisade", "share")) for n, word in ((1, "one"), (2, "two"))),
        ratio("rebuild", "rebuild of one member", 0.8, "raw", "mib_s", f"{LIMIT}, four read and one written"),
        ratio("scrub", "scrub", 0.8, "raw", "mib_s", f"{LIMIT}, six read"),
        Target("p99-healthy", "p99 of 4K reads while rebuilding", "at most 2 x without, whole", 2, False, "x",
               lambda get: get("p99-rebuilding", "palisade", "p99_us") / get("p99-healthy", "palisade", "p99_us")),
        Target("memory", "memory, at most ever resident", "at most 64 MiB + 20 MiB/TiB + staging", 1, False, "x",
               lambda get: get("memory", "palisade", "peak_mib") / get("memory", "palisade", "bound_mib")),
        ratio("tmpfs-read4k", "members on tmpfs: 4K random read, q16 x 4", 0.8, "nbdkit-memory", "iops", MEMORY,
              "palisade-tmpfs"),
        ratio("tmpfs-write4k", "members on tmpfs: 4K random write, q16 x 4", 0.8, "nbdkit-memory", "iops", MEMORY,
              "palisade-tmpfs"),
        ratio("tmpfs-write4k", "members on tmpfs: 4K random write, q16 x 4", 20, "btrfs6-tmpfs", "iops",
              "btrfs RAID 6 on loops on tmpfs", "palisade-tmpfs"),
        ratio("tmpfs-write1m", "members on tmpfs: 1M sequential write", 0.8, "nbdkit-memory", "mib_s", MEMORY,
              "palisade-tmpfs"),
        Target("tmpfs-write1m", "members on tmpfs: 1M sequential write", "at least 2 GB/s", 2, True, "GB/s",
               lambda get: get("tmpfs-write1m", "palisade-tmpfs", "mib_s") * 2**20 / 1e9),
        *(codec(operation, "codec", "isa-l", "ISA-L") for operation in OPERATIONS),
        codec("encode", "codec-portable", "reed-solomon-erasure", "reed-solomon-erasure with SIMD"),
    ]


@dataclasses.dataclass(frozen=True)
class Verdict:
    target: Target
    # Of each round; none if something it needs was not measured.
    values: tuple

    @property
    def median(self):
        return statistics.median(self.values) if self.values else None

    @property
    def met(self):
        if self.median is None:
            return None
        return self.median >= self.target.limit if self.target.at_least else self.median <= self.target.limit


def verdicts(found, on_loops):
    """Of the targets whose row was measured."""
    return [Verdict(t, tuple(_values(found, t))) for t in targets(on_loops) if t.row in found]


def _values(found, target):
    for number in range(max(map(len, found[target.row].values()))):
        try:
            yield target.value(lambda row, peer, metric: found[row][peer][number][metric])
        except (KeyError, IndexError, ZeroDivisionError):
            # A peer is absent, or the run ended in the middle of this round.
            continue
