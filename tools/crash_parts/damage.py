"""Random bytes in random places of a member's file."""
import errno, mmap, os
from collections import Counter

from .volume import NOISE

SUPERBLOCK = 28 << 10
# The share of each area: most of a file is data, but all areas are to be hit.
WEIGHTS = {"data": 45, "checksums": 18, "epoch map": 10, "journal": 18, "superblock": 6, "anywhere": 3}


class Damage:
    """Knows where the areas are, and counts what it did by area."""

    def __init__(self, examined):
        self.size, self.hits = examined["size_bytes"], Counter()
        areas = {a["name"]: (a["offset_bytes"], a["len_bytes"]) for a in examined["areas"]}
        self.places = {name: [areas[name]] for name in WEIGHTS if name in areas}
        self.places["superblock"] = [(c["offset_bytes"], SUPERBLOCK) for c in examined["copies"]]
        self.places["anywhere"] = [(0, self.size)]
        # Its two checkpoint pages are small, and matter.
        self.places["journal"] += [(areas["journal"][0], 8192)]

    def hurt(self, path, rnd, live):
        """Damages a member. While a daemon has it open only whole sectors are written, past the page
        cache: the kernel would write a part of a page with the old rest of it, and so undo what the
        daemon writes beside it at that moment."""
        way = rnd.random()
        if way < 0.06:
            self.write(path, "anywhere", 0, self.size, rnd, live)
        elif way < 0.25:
            area = rnd.choice(["data", "checksums", "epoch map", "journal", "superblock"])
            for start, length in self.places[area]:
                self.write(path, area, start, length, rnd, live)
        else:
            for area in rnd.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rnd.randint(1, 60)):
                if area == "superblock" and rnd.random() < 0.7:
                    continue  # else hardly a damaged member would stay in the array
                start, length = rnd.choice(self.places[area])
                some = min(length, rnd.choice([1, rnd.randint(2, 64), 512, 4096, 4096, rnd.randint(1, 1 << 18)]))
                self.write(path, area, start + rnd.randrange(length - some + 1), some, rnd, live)

    def write(self, path, area, start, length, rnd, live):
        self.hits[area] += 1
        with open(path, "rb+", buffering=0) as file:
            if live:
                self.write_sectors(path, start, length, rnd)
                return
            for at in range(start, start + length, len(NOISE) // 2):
                some = min(len(NOISE) // 2, start + length - at)
                shift = rnd.randrange(len(NOISE) // 2)
                os.pwrite(file.fileno(), NOISE[shift:shift + some], at)
            os.fsync(file.fileno())

    def write_sectors(self, path, start, length, rnd):
        direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, len(NOISE) // 2) as buffer:
                for unit in (512, 4096):
                    try:
                        end = min(self.size, -(-(start + length) // unit) * unit)
                        for at in range(start // unit * unit, end, len(buffer)):
                            shift = rnd.randrange(len(NOISE) // 2)
                            buffer[:] = NOISE[shift:shift + len(buffer)]
                            with memoryview(buffer)[:min(len(buffer), end - at)] as part:
                                os.pwrite(direct, part, at)
                        return
                    except OSError as why:
                        if why.errno != errno.EINVAL or unit == 4096:
                            raise
        finally:
            os.close(direct)
