"""What is written to the folder: table.md, figures.json and the charts."""
import dataclasses, json, pathlib, statistics

from .bench import PEERS
from .chart import Bar, Group, chart
from .codec import LABELS, OPERATIONS, SHAPES
from .system import GIB, MIB
from .targets import verdicts

TITLES = {
    "read4k-q1": "4K random read, q1", "read4k-q16x1": "4K random read, q16 x 1",
    "read4k-q16x4": "4K random read, q16 x 4", "burst-q16x1": "4K random write after a pause, q16 x 1",
    "burst-q16x4": "4K random write after a pause, q16 x 4", "sustained": "4K random write that lasts, q16 x 4",
    "zipf": "the same, zipf 0.99", "write1m": "1M sequential write, q8", "read1m": "1M sequential read, q8",
    "degraded-0": "1M sequential read, none lost", "degraded-1": "1M sequential read, one lost",
    "degraded-2": "1M sequential read, two lost", "rebuild": "rebuild, bytes of the replacement",
    "scrub": "scrub, bytes of all members", "p99-healthy": "4K random read, q16 x 1: whole",
    "p99-lost": "4K random read, q16 x 1: one lost", "p99-rebuilding": "4K random read, q16 x 1: rebuilding",
    "tmpfs-read4k": "4K random read, q16 x 4", "tmpfs-write4k": "4K random write, q16 x 4",
    "tmpfs-write1m": "1M sequential write, q8",
}
CODEC = tuple(f"{operation} {shape}" for operation in OPERATIONS for shape in SHAPES)
TITLES.update((row, row) for row in CODEC)


@dataclasses.dataclass(frozen=True)
class Section:
    title: str
    unit: str
    metric: str
    rows: tuple
    # File name of its chart.
    chart: str = ""
    digits: int = 0


SMALL = ("read4k-q1", "read4k-q16x1", "read4k-q16x4", "burst-q16x1", "burst-q16x4")
SECTIONS = [
    Section("4K requests", "requests per second", "iops", SMALL, "iops"),
    Section("CPU time of the server", "us per 4K request", "cpu_us", SMALL, digits=1),
    Section("Small writes that last", "requests per second", "iops", ("sustained", "zipf"), "sustained"),
    Section("1M requests", "MiB/s", "mib_s", ("write1m", "read1m"), "throughput"),
    Section("Reading with members lost", "MiB/s", "mib_s", ("degraded-0", "degraded-1", "degraded-2")),
    Section("Reading with members lost", "of healthy", "share", ("degraded-1", "degraded-2"), "degraded", 3),
    Section("Rebuild and scrub", "MiB/s", "mib_s", ("rebuild", "scrub"), "recovery"),
    Section("Latency while rebuilding", "p99, us", "p99_us", ("p99-healthy", "p99-lost", "p99-rebuilding")),
    Section("Members on tmpfs", "requests per second", "iops", ("tmpfs-read4k", "tmpfs-write4k"), "tmpfs-iops"),
    Section("Members on tmpfs", "MiB/s", "mib_s", ("tmpfs-write1m",), "tmpfs-throughput"),
    Section("The codec", "one thread, in cache, GB/s of data", "gb_s", CODEC, "codec", 1),
]


class Report:
    def __init__(self, bench, broken_off):
        self.bench, self.args, self.found, self.broken_off = bench, bench.args, bench.found, broken_off
        self.verdicts = verdicts(self.found, "palisade" if self.args.loop else "palisade-loop")

    def mid(self, row, key, metric):
        runs = [run[metric] for run in self.found.get(row, {}).get(key, []) if run.get(metric) is not None]
        return statistics.median(runs) if runs else None

    def write(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        parts = [self.head(), self.targets()]
        for section in SECTIONS:
            parts += self.section(folder, section)
        parts.append(self.memory())
        table = "\n\n".join(part for part in parts if part) + "\n"
        (folder / "table.md").write_text(table)
        (folder / "figures.json").write_text(json.dumps(self.figures(), indent=1) + "\n")
        return table

    def head(self):
        a, b = self.args, self.bench
        rounds = max((len(runs) for row in self.found.values() for runs in row.values()), default=0)
        on = "loop devices (direct I/O) over image files" if a.loop else "image files, O_DIRECT"
        lines = [
            f"Machine: {b.machine}. {f'Medians of {rounds} interleaved rounds' if rounds > 1 else 'One round'} of "
            f"{a.seconds} s each, of {a.sustained} s where writes last; {a.size / GIB:g} GiB of each volume are used, "
            f"{a.tmpfs_size / GIB:g} GiB on tmpfs; a burst is {b.burst / MIB:g} MiB"
            + (f", palisade's staging {b.staging / MIB:g} MiB." if b.staging else "."), "",
            f"- palisade: 4+2, checksums verified at every read; over {on}. NBD over a unix socket, as the other "
            "servers.",
            *(f"- {self.note(key)}" for key in ("palisade-loop", "qemu", "nbdkit", "btrfs6", "md", "codec")
              if any(key in row.peers for row in b.rows)),
        ]
        if self.broken_off:
            lines += ["", "**The run was broken off: the last rounds are missing.**"]
        return "\n".join(lines)

    def note(self, key):
        about = {
            "palisade-loop": "palisade, loops: the same over six loop devices (direct I/O), as btrfs has them.",
            "qemu": "qemu-nbd: cache none, native, over one raw file: no redundancy, no checksums.",
            "nbdkit": "nbdkit file: cache=none (through the page cache, dropped soon), over one raw file: no "
                      "redundancy, no checksums. nbdkit memory: in its own memory.",
            "btrfs6": "btrfs RAID 6 and 5: six loop devices (direct I/O), checksums, one file; fio io_uring, O_DIRECT, "
                      "without NBD.",
            "md": "Linux md RAID 6: six loop devices (direct I/O); fio io_uring, O_DIRECT, without NBD. No checksums.",
            "codec": f"the codec: shards of 64 KiB, the engine that this CPU gets{self.engine()}. ISA-L as it is "
                     "installed, its tables made beforehand; reed-solomon-erasure with simd-accel.",
        }[key]
        why = self.bench.absent.get(key)
        return f"{about.split(':')[0]}: not measured, {why}." if why else about

    def engine(self):
        runs = self.found.get(CODEC[0], {}).get("codec")
        return f", {runs[0]['engine']}" if runs else ""

    def targets(self):
        if not self.verdicts:
            return ""
        lines = ["## Targets", "", "| | target | measured | |", "|---|---|---:|---|"]
        for v in self.verdicts:
            t = v.target
            measured = "" if v.median is None else f"{v.median:.2f} {t.unit}"
            word = {True: "met", False: "**not met**", None: "not measured"}[v.met]
            lines.append(f"| {t.what} | {t.goal} | {measured} | {word} |")
        return "\n".join(lines)

    def section(self, folder, section):
        rows = [row for row in section.rows if row in self.found]
        keys = [k for k in {**PEERS, **LABELS} if any(self.mid(row, k, section.metric) is not None for row in rows)]
        if not keys:
            return []
        lines = [f"## {section.title}, {section.unit}", "", f"| | {' | '.join(self.bench.label(k) for k in keys)} |",
                 f"|---|{'---:|' * len(keys)}"]
        for row in rows:
            cells = [self.mid(row, key, section.metric) for key in keys]
            text = " | ".join("" if cell is None else f"{cell:,.{section.digits}f}" for cell in cells)
            lines.append(f"| {TITLES[row]} | {text} |")
        parts = ["\n".join(lines)]
        if section.chart:
            groups = [Group(TITLES[row], [self.bar(row, key, section) for key in keys]) for row in rows]
            name = f"{section.chart}.svg"
            (folder / name).write_text(chart(section.title, section.unit, groups, section.digits))
            parts.append(f"![{section.title}, {section.unit}]({name})")
        return parts

    def bar(self, row, key, section):
        kind = "own" if key.startswith(("palisade", "codec")) else "limit" if key == "raw" else "peer"
        return Bar(self.bench.label(key), self.mid(row, key, section.metric), kind)

    def memory(self):
        at = lambda metric: self.mid("memory", "palisade", metric)
        if at("peak_mib") is None:
            return ""
        return (f"## Memory\n\nResident at most {at('peak_mib'):.0f} MiB, at the end {at('resident_mib'):.0f} MiB; "
                f"{at('bound_mib'):.0f} MiB are allowed.")

    def figures(self):
        a = self.args
        return {
            "machine": self.bench.machine, "complete": not self.broken_off, "rounds": a.rounds, "seconds": a.seconds,
            "sustained_seconds": a.sustained, "size_bytes": a.size, "tmpfs_size_bytes": a.tmpfs_size,
            "burst_bytes": self.bench.burst, "staging_bytes": self.bench.staging, "loop": a.loop, "absent": self.bench.absent,
            "targets": [{"row": v.target.row, "what": v.target.what, "target": v.target.goal, "unit": v.target.unit,
                         "median": v.median, "rounds": v.values, "met": v.met} for v in self.verdicts],
            "rows": self.found,
        }
