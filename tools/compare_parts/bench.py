"""One run: the peers, made when they are first needed, and everything that was measured."""
import os, sys

from . import fio
from .bounds import Raw
from .codec import LABELS, Codec
from .kernel import Btrfs, Md
from .servers import DATA, JOURNAL, PARITY, Nbdkit, NbdkitMemory, Palisade, QemuNbd
from .system import GIB, MIB, Scratch, Trouble, free_bytes, machine, need

LOOPS = "palisade, loops"
# What can be left out, and the peers that are gone with it.
FAMILIES = {"qemu": ["qemu"], "nbdkit": ["nbdkit", "nbdkit-memory"], "btrfs": ["btrfs6", "btrfs5", "btrfs6-tmpfs"],
            "md": ["md"], "codec": ["codec"]}


def palisade(key, label, loops, on_tmpfs=False):
    def make(b, size):
        return Palisade(b, size, key, label, loops(b), b.scratch.tmpfs if on_tmpfs else b.scratch.disk)
    return Palisade, make


def btrfs(key, level, parity, on_tmpfs=False):
    def make(b, size):
        return Btrfs(b, size, key, level, parity, b.scratch.tmpfs if on_tmpfs else b.scratch.disk)
    return Btrfs, make


# Key: its class, and how it is made over so many bytes. The order is that of the columns.
PEERS = {
    "raw": (Raw, Raw),
    "palisade": palisade("palisade", "palisade", lambda b: b.args.loop),
    "palisade-loop": palisade("palisade-loop", LOOPS, lambda b: True),
    "qemu": (QemuNbd, QemuNbd),
    "nbdkit": (Nbdkit, Nbdkit),
    "btrfs6": btrfs("btrfs6", 6, 2),
    "btrfs5": btrfs("btrfs5", 5, 1),
    "md": (Md, Md),
    "palisade-tmpfs": palisade("palisade-tmpfs", "palisade, tmpfs", lambda b: False, True),
    "nbdkit-memory": (NbdkitMemory, NbdkitMemory),
    "btrfs6-tmpfs": btrfs("btrfs6-tmpfs", 6, 2, True),
    "codec": (Codec, Codec),
}
ON_TMPFS = ("palisade-tmpfs", "nbdkit-memory", "btrfs6-tmpfs")


class Bench:
    """`found[row][peer]` holds one dictionary of figures for each round."""

    def __init__(self, args, rows):
        self.args, self.rows, self.found, self.made = args, rows, {}, {}
        self.binary, self.staging = os.path.abspath(args.palisade), args.staging
        self.absent = self._absent()
        self._check()
        self.scratch = Scratch(args.dir, args.tmpfs if self._uses(ON_TMPFS) else None)
        self.machine = machine(self.scratch.disk)

    @property
    def burst(self):
        """Bytes of a burst: no more than may wait before any of it goes home."""
        return self.args.burst or min((self.staging or 512 * MIB) // 2, 256 * MIB)

    def _absent(self):
        """Peers that are not measured, and why."""
        gone = {key: f"left out (--without {family})" for family in self.args.without for key in FAMILIES[family]}
        if self.args.quick and not self.args.only:
            gone["codec"] = "left out (--quick)"
        why = Md.absence()
        if why and "md" not in gone:
            gone["md"] = why
        if self.args.loop:
            gone["palisade-loop"] = "all of palisade is on loop devices (--loop)"
        elif {"btrfs6", "btrfs5", "md"} <= gone.keys():
            gone["palisade-loop"] = "nothing else is on loop devices"
        return gone

    def keys(self):
        """Peers that the chosen rows ask for, and that can be had."""
        asked = {key for row in self.rows for key in row.peers}
        return [key for key in PEERS if key in asked and key not in self.absent]

    def _uses(self, keys):
        return set(keys) & set(self.keys())

    def _check(self):
        """What would fail in an hour is better said now."""
        if not os.access(self.binary, os.X_OK):
            raise Trouble(f"{self.args.palisade} is not there: cargo build --release, or name it with --palisade")
        need(["fio", *(tool for key in self.keys() for tool in PEERS[key][0].tools)])
        on_loops = self._uses(["palisade-loop", "btrfs6", "btrfs5", "btrfs6-tmpfs", "md"])
        if os.geteuid() and (on_loops or self.args.loop):
            raise Trouble("loop devices and mounts are for root; without: --without btrfs md")
        self._check_space("--dir", self.args.dir or os.environ.get("TMPDIR", "/tmp"), self.args.size,
                          [key for key in self.keys() if key not in ON_TMPFS])
        self._check_space("--tmpfs", self.args.tmpfs, self.args.tmpfs_size, self._uses(ON_TMPFS))

    def _check_space(self, option, folder, size, keys):
        if not keys:
            return
        if not os.path.isdir(folder):
            raise Trouble(f"{option}: {folder} is no folder")
        needed = int(size * (sum(PEERS[key][0].space for key in keys) + 0.5))
        # What the journals take beside.
        journals = [key for key in keys if PEERS[key][0] is Palisade]
        needed += len(journals) * (DATA + PARITY) * (256 * MIB if option == "--tmpfs" else JOURNAL)
        if free_bytes(folder) < needed:
            raise Trouble(f"{option}: {needed / GIB:.0f} GiB are needed, {free_bytes(folder) / GIB:.0f} are free; give "
                          f"a smaller {'--size' if option == '--dir' else '--tmpfs-size'}, or another folder")

    def peer(self, key):
        """Makes and fills it the first time. None if it is absent."""
        if key in self.absent:
            return None
        if key not in self.made:
            self.say(f"preparing {key}")
            made = PEERS[key][1](self, self.args.tmpfs_size if key in ON_TMPFS else self.args.size)
            if not isinstance(made, (Raw, Codec)):
                fio.fill(made)
            self.made[key] = made
        return self.made[key]

    def peers(self, keys):
        return [peer for peer in map(self.peer, keys) if peer]

    def label(self, key):
        return LABELS.get(key) or (self.made[key].label if key in self.made else key)

    def settle(self):
        """No peer works on what was written before while another is measured."""
        for peer in self.made.values():
            peer.settle()

    def measure(self, peer, job, **how):
        self.settle()
        return fio.measure(peer, job, **how)

    def note(self, row, key, figures):
        self.found.setdefault(row, {}).setdefault(key, []).append(figures)

    def say(self, text):
        if not self.args.quiet:
            print(f"  {text}", file=sys.stderr)

    def run(self):
        """Row by row; in each round of a row all peers take their turns."""
        for row in self.rows:
            self.peers(row.peers)
            for number in range(self.args.rounds):
                row.once(self)
                self.say(f"{row.key}: round {number + 1} of {self.args.rounds}")
