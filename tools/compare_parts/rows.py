"""What is measured. A row's `once` is one round of it: every peer in turn."""
import dataclasses
from typing import Callable

from .fio import Fio, Job, figures
from .servers import DATA, PARITY
from .system import MIB, TIB, Trouble, memory_mib

DISK = ("palisade", "palisade-loop", "qemu", "nbdkit", "btrfs6", "btrfs5", "md")
REDUNDANT = ("palisade", "palisade-loop", "btrfs6", "btrfs5", "md")
MEMORY = ("palisade-tmpfs", "nbdkit-memory", "btrfs6-tmpfs")
READ_1M = Job("read", "1m", 8)
WRITE_1M = Job("write", "1m", 8)
READ_4K = Job("randread", "4k", 16)
READS_4K = Job("randread", "4k", 16, 4)
SMALL_WRITES = Job("randwrite", "4k", 16, 4)
# One set of hot blocks for all connections: without a centre fio gives each its own.
ZIPF = dataclasses.replace(SMALL_WRITES, extra=("--random_distribution=zipf:0.99:0.5",))
# The slots that are lost, and how long fio may run beside a rebuild.
LOST = (1, 3)
LONG_S = 3600


@dataclasses.dataclass(frozen=True)
class Row:
    key: str
    peers: tuple
    once: Callable


def timed(key, peers, job):
    """For --seconds each."""
    def once(b):
        for peer in b.peers(peers):
            b.note(key, peer.key, b.measure(peer, job, seconds=b.args.seconds))
    return Row(key, peers, once)


def reads_4k(b):
    """Beside the disk, with as many requests at once."""
    raw = b.peer("raw")
    b.settle()
    depth = READS_4K.depth * READS_4K.connections // raw.count
    b.note("read4k-q16x4", "raw", raw.rates(dataclasses.replace(READS_4K, depth=depth, connections=1), b.args.seconds))
    for peer in b.peers(DISK):
        b.note("read4k-q16x4", peer.key, b.measure(peer, READS_4K, seconds=b.args.seconds))


def burst(key, job):
    """As many bytes as the journal takes, after everything is home."""
    def once(b):
        for peer in b.peers(DISK):
            b.note(key, peer.key, b.measure(peer, job, io_bytes=b.burst))
    return Row(key, DISK, once)


def lasting(key, job):
    """Long after the journal is full, beside what the disk would give to one who reads, modifies and writes."""
    def once(b):
        raw, palisade = b.peers(["raw", "palisade"])
        b.settle()
        b.note(key, "raw", raw.small_writes(b.args.seconds))
        # What is measured begins when the journal is full.
        ramp_s = max(b.args.sustained // 6, 2)
        b.note(key, "palisade", b.measure(palisade, job, seconds=b.args.sustained, ramp_s=ramp_s))
    return Row(key, ("raw", "palisade"), once)


def write_1m(b):
    raw = b.peer("raw")
    b.settle()
    rates = raw.rates(WRITE_1M, b.args.seconds)
    b.note("write1m", "raw", {"mib_s": rates["mib_s"] * DATA / (DATA + PARITY), "six_files_mib_s": rates["mib_s"]})
    for peer in b.peers(DISK):
        b.note("write1m", peer.key, b.measure(peer, WRITE_1M, seconds=b.args.seconds))


def losing(b, peer):
    """Loses one member after the other, as far as parity goes; yields how many are lost."""
    yield 0
    if hasattr(peer, "take_back"):
        lost = []
        for slot in LOST:
            lost.append(peer.fail(slot))
            yield len(lost)
        peer.take_back(lost)
        return
    lost = LOST[:peer.parity]
    for count in range(1, len(lost) + 1):
        peer.degraded(lost[:count])
        yield count
    peer.whole_again(lost)


def degraded(b):
    for peer in b.peers(REDUNDANT):
        for lost in losing(b, peer):
            found = b.measure(peer, READ_1M, seconds=b.args.seconds)
            if lost == 0:
                healthy = found["mib_s"]
            b.note(f"degraded-{lost}", peer.key, {**found, "share": found["mib_s"] / healthy})


def rebuild(b):
    raw = b.peer("raw")
    b.settle()
    b.note("rebuild", "raw", raw.rebuild())
    for peer in b.peers(["palisade", "btrfs6"]):
        b.settle()
        b.note("rebuild", peer.key, {"mib_s": peer.bytes / DATA / MIB / peer.rebuild(LOST[0])})


def scrub(b):
    raw = b.peer("raw")
    b.settle()
    b.note("scrub", "raw", raw.scrub())
    for peer in b.peers(["palisade", "btrfs6"]):
        b.settle()
        bytes_, seconds = peer.scrub()
        b.note("scrub", peer.key, {"mib_s": bytes_ / MIB / seconds})


def rebuild_p99(b):
    """4K reads of a whole array, of one that lacks a member, and until the replacement is filled."""
    palisade = b.peer("palisade")
    b.note("p99-healthy", "palisade", b.measure(palisade, READ_4K, seconds=b.args.seconds))
    lost = palisade.fail(LOST[0])
    b.note("p99-lost", "palisade", b.measure(palisade, READ_4K, seconds=b.args.seconds))
    b.settle()
    # fio begins when the rebuild has, and is told to end when it ends: nothing else is counted.
    palisade.begin_rebuild(LOST[0], lost)
    reader = Fio(READ_4K.args(palisade.where(), palisade.bytes, seconds=LONG_S))
    try:
        palisade.wait_rebuilt()
    finally:
        reader.interrupt()
        jobs = reader.finish(early=True)
    found = figures(jobs[0]) if jobs else None
    # A 99th percentile of fewer requests says nothing.
    if found and found["requests"] >= 1000:
        b.note("p99-rebuilding", "palisade", found)
    else:
        b.say("rebuild-p99: the rebuild ended too soon; give a larger --size")


def memory(b):
    """The most that was ever resident, after all that was measured before and loads of each kind."""
    palisade = b.peer("palisade")
    for job in (SMALL_WRITES, WRITE_1M, READ_1M):
        b.measure(palisade, job, seconds=b.args.seconds)
    bound = 64 + 20 * palisade.bytes / TIB + b.staging / MIB
    b.note("memory", "palisade", {"peak_mib": memory_mib(palisade.pid, "VmHWM"),
                                  "resident_mib": memory_mib(palisade.pid, "VmRSS"), "bound_mib": bound})


def codec(b):
    found = b.peer("codec")
    for what, key, figures in found.rates(b.args.quick) if found else ():
        b.note(what, key, figures)


ROWS = [
    timed("read4k-q1", DISK, Job("randread", "4k", 1)),
    timed("read4k-q16x1", DISK, READ_4K),
    Row("read4k-q16x4", ("raw", *DISK), reads_4k),
    burst("burst-q16x1", Job("randwrite", "4k", 16)),
    burst("burst-q16x4", SMALL_WRITES),
    lasting("sustained", SMALL_WRITES),
    lasting("zipf", ZIPF),
    Row("write1m", ("raw", *DISK), write_1m),
    timed("read1m", DISK, READ_1M),
    Row("degraded", REDUNDANT, degraded),
    Row("rebuild", ("raw", "palisade", "btrfs6"), rebuild),
    Row("scrub", ("raw", "palisade", "btrfs6"), scrub),
    Row("rebuild-p99", ("palisade",), rebuild_p99),
    Row("memory", ("palisade",), memory),
    timed("tmpfs-read4k", MEMORY, READS_4K),
    timed("tmpfs-write4k", MEMORY, SMALL_WRITES),
    timed("tmpfs-write1m", MEMORY, WRITE_1M),
    Row("codec", ("codec",), codec),
]


def chosen(keys):
    """The rows of these names, or all."""
    unknown = set(keys or ()) - {row.key for row in ROWS}
    if unknown:
        raise Trouble(f"no row is called {' or '.join(sorted(unknown))}; there are {', '.join(r.key for r in ROWS)}")
    return [row for row in ROWS if not keys or row.key in keys]
