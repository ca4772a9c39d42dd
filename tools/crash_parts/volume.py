"""What the volume must hold, and the load that reads and writes it."""
import random, time

import nbd

BLOCK = 4096
IN_FLIGHT = 16
# Blocks read at once when everything is verified.
STEP = 64
NOISE = random.Random(0).randbytes(1 << 20)
ZERO = 0


class Failed(Exception):
    pass


def content(block, version):
    """The bytes of a version of a block, different for each; they say what they are."""
    if version == ZERO:
        return bytes(BLOCK)
    at = version * 7919 % (len(NOISE) - BLOCK)
    return version.to_bytes(8, "little") + block.to_bytes(8, "little") + NOISE[at:at + BLOCK - 16]


def describe(found):
    if found == bytes(BLOCK):
        return "zeroes"
    version, block = int.from_bytes(found[:8], "little"), int.from_bytes(found[8:16], "little")
    if version and found == content(block, version):
        return f"version {version} of block {block}"
    return f"bytes nobody wrote, {found[:16].hex()}..."


class Model:
    """By block, the versions it may hold; zeroes if it was never written.

    `torn` are the blocks of whole stripes that were being written at a kill: with a member lost beside it they may
    be gone, neither old nor new, and read as an error until they are written anew.
    """

    def __init__(self, shape):
        self.blocks, self.last, self.shape, self.torn = {}, ZERO, shape, set()
        self.written = self.verified = self.gone = 0

    def begin(self, start, count, zeroes):
        first = ZERO if zeroes else self.last + 1
        versions = [ZERO] * count if zeroes else list(range(first, first + count))
        self.last += 0 if zeroes else count
        for block, version in zip(range(start, start + count), versions):
            self.blocks.setdefault(block, [ZERO]).append(version)
        return versions

    def answered(self, start, versions):
        self.written += len(versions)
        for block, version in enumerate(versions, start):
            self.blocks[block] = [version]

    def killed(self, pending):
        k, _, chunk = self.shape
        stripe = k * chunk // BLOCK
        for start, count, versions, _ in pending:
            if versions:
                self.torn.update(range(-(-start // stripe) * stripe, (start + count) // stripe * stripe))

    def look(self, start, found, when):
        """Compares what was read from block `start` on; what was found once must be found again."""
        count = len(found) // BLOCK
        allowed = [self.blocks.get(block, [ZERO]) for block in range(start, start + count)]
        self.verified += count
        if all(len(v) == 1 for v in allowed):
            if found == b"".join(content(b, v[0]) for b, v in enumerate(allowed, start)):
                return
        for block, versions in enumerate(allowed, start):
            bytes_ = found[(block - start) * BLOCK:][:BLOCK]
            fits = [v for v in versions if bytes_ == content(block, v)]
            if not fits:
                raise Failed(f"{self.place(block)} holds {describe(bytes_)} instead of version "
                             f"{' or '.join(map(str, versions))}, {when}")
            if block in self.blocks:
                self.blocks[block] = fits[:1]

    def place(self, block):
        k, n, chunk = self.shape
        stripe, inside = divmod(block * BLOCK, k * chunk)
        shard, row = divmod(inside, chunk)
        return f"block {block} (stripe {stripe}, byte {row} of the chunk in slot {(stripe * k + shard) % n})"

    def check(self, handle, when):
        """Reads the whole volume."""
        blocks, at, pending = handle.get_size() // BLOCK, 0, {}
        # Plain bytearrays here and below: libnbd up to 1.14 never frees an nbd.Buffer.
        while at < blocks or pending:
            while at < blocks and len(pending) < 8:
                buffer = bytearray(min(STEP, blocks - at) * BLOCK)
                pending[handle.aio_pread(buffer, at * BLOCK)] = (at, buffer)
                at += STEP
            try:
                handle.poll(-1)
            except nbd.Error as why:
                raise Failed(f"the connection ended while everything was read: {why}, {when}") from None
            for command in list(pending):
                start, buffer = pending[command]
                try:
                    if not handle.aio_command_completed(command):
                        continue
                    del pending[command]
                    self.look(start, bytes(buffer), when)
                except nbd.Error:
                    del pending[command]
                    self.look_singly(handle, start, len(buffer) // BLOCK, when)
        self.torn.clear()

    def look_singly(self, handle, start, count, when):
        """What cannot be read must be torn, and is written anew, as by a client that sends it again."""
        gone = self.gone
        for block in range(start, start + count):
            try:
                self.look(block, bytes(handle.pread(BLOCK, block * BLOCK)), when)
            except nbd.Error as why:
                if block not in self.torn or len(self.blocks[block]) == 1:
                    raise Failed(f"{self.place(block)} cannot be read: {why}, {when}") from None
                versions = self.begin(block, 1, False)
                handle.pwrite(content(block, versions[0]), block * BLOCK)
                self.answered(block, versions)
                self.gone += 1
        if self.gone == gone:
            raise Failed(f"something in the {count} blocks from {start} on cannot be read, though each of them alone "
                         f"can, {when}")


class Load:
    """Requests under way; those that overlap are never under way at once."""

    def __init__(self, model, handle, rnd):
        self.model, self.handle, self.rnd, self.pending = model, handle, rnd, {}
        self.blocks = handle.get_size() // BLOCK

    def run(self, events):
        """Until the last of the `events` (seconds from now, what to do), which kills the daemon."""
        begin, events = time.monotonic(), sorted(events, key=lambda e: e[0], reverse=True)
        killed = False
        while not (killed and self.handle.aio_is_dead()):
            while events and time.monotonic() - begin > events[-1][0]:
                events.pop()[1]()
                killed = not events
            try:
                if killed or len(self.pending) >= IN_FLIGHT or not self.begin_one():
                    self.handle.poll(5)
                for command in list(self.pending):
                    if self.handle.aio_command_completed(command):
                        self.end(*self.pending.pop(command))
            except nbd.Error as why:
                if killed:
                    return
                raise Failed(f"a request under load failed: {why}") from None

    def begin_one(self):
        rnd = self.rnd
        count = rnd.choice([1, 1, 1, 2, 5, rnd.randrange(64, 128)])
        start = rnd.choice([rnd.randrange(min(self.blocks - count, 3000)), rnd.randrange(self.blocks - count)])
        if any(start < s + n and s < start + count for s, n, *_ in self.pending.values()):
            return False
        kind, handle = rnd.random(), self.handle
        if kind < 0.01:
            handle.aio_flush()
        elif kind < 0.25:
            buffer = bytearray(count * BLOCK)
            self.pending[handle.aio_pread(buffer, start * BLOCK)] = (start, count, None, buffer)
        elif kind < 0.30:
            versions = self.model.begin(start, count, True)
            flags = rnd.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA])
            self.pending[handle.aio_zero(count * BLOCK, start * BLOCK, flags=flags)] = (start, count, versions, None)
        else:
            versions = self.model.begin(start, count, False)
            data = bytearray(b"".join(content(b, v) for b, v in enumerate(versions, start)))
            flags = nbd.CMD_FLAG_FUA if rnd.random() < 0.05 else 0
            command = handle.aio_pwrite(data, start * BLOCK, flags=flags)
            self.pending[command] = (start, count, versions, None)
        return True

    def end(self, start, _count, versions, buffer):
        if buffer is None:
            self.model.answered(start, versions)
        else:
            self.model.look(start, bytes(buffer), "read under load")
