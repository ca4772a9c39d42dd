"""NBD servers: palisade, and those it is compared with."""
import http.client, json, os, pathlib, re, socket, time

from .system import GIB, LIMIT_S, MIB, Trouble, cpu_seconds, end_stranger, file_system, run, wait_until

DATA, PARITY = 4, 2


class Server:
    """Anything that fio's nbd engine can talk to. `bytes`: the range that is used of it."""
    key = label = ""

    def where(self):
        return ["--ioengine=nbd", f"--uri={self.uri}"]

    def cpu_s(self):
        return cpu_seconds(self.pid)

    def settle(self):
        """Waits until nothing is left to do of what was written before."""


class OverFile(Server):
    """A server of another project over one raw file: no redundancy, no checksums."""

    def serve(self, scratch, path, *command):
        self.path, at = path, f"{scratch.runtime}/{self.key}.sock"
        self.pid = scratch.daemon(*[part.replace("SOCKET", at) for part in command]).pid
        wait_until(f"{self.label} listens", lambda: os.path.exists(at), 30)
        self.uri = f"nbd+unix:///?socket={at}"

    def settle(self):
        if self.path:
            handle = os.open(self.path, os.O_RDWR)
            os.fsync(handle)
            os.close(handle)


class QemuNbd(OverFile):
    key, label, tools, space = "qemu", "qemu-nbd", ("qemu-nbd",), 1.0

    def __init__(self, bench, bytes_):
        self.bytes = bytes_
        path = bench.scratch.image(f"{bench.scratch.disk}/raw-{self.key}", bytes_)
        self.serve(bench.scratch, path, "qemu-nbd", "--cache=none", "--aio=native", "--persistent", "--shared=8",
                   "--format=raw", "--discard=unmap", "--socket=SOCKET", path)


class Nbdkit(OverFile):
    key, label, tools, space = "nbdkit", "nbdkit file", ("nbdkit",), 1.0

    def __init__(self, bench, bytes_):
        self.bytes = bytes_
        path = bench.scratch.image(f"{bench.scratch.disk}/raw-{self.key}", bytes_)
        self.serve(bench.scratch, path, "nbdkit", "--foreground", "--unix", "SOCKET", "file", path, "cache=none")


class NbdkitMemory(OverFile):
    key, label, tools, space = "nbdkit-memory", "nbdkit memory", ("nbdkit",), 1.0

    def __init__(self, bench, bytes_):
        self.bytes = bytes_
        self.serve(bench.scratch, None, "nbdkit", "--foreground", "--unix", "SOCKET", "memory", str(bytes_))


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("x", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


# The ring of the largest journal of a member, and where it begins.
JOURNAL, JOURNAL_START = GIB - MIB, MIB


class Palisade(Server):
    """4+2, with checksums, on plain files (O_DIRECT) or on loop devices over such files."""
    tools = ()
    space = (DATA + PARITY) / DATA

    def __init__(self, bench, bytes_, key, label, loops, folder):
        self.key, self.label, self.bytes, self.loops = key, label, bytes_, loops
        self.scratch, self.folder, self.binary, self.made = bench.scratch, folder, bench.binary, 0
        self.name = "cmp-" + key
        base = f"{self.scratch.runtime}/{key}"
        self.env = dict(os.environ, PALISADE_CONFIG_DIR=f"{base}/etc", PALISADE_RUNTIME_DIR=f"{base}/run",
                        PALISADE_STATE_DIR=f"{base}/state")
        # Mostly sparse, and as large as they must be for the journal to be as large as it gets, if not on tmpfs.
        on_tmpfs = file_system(folder) == "tmpfs"
        self.member_bytes = max(bytes_ // DATA * 33 // 32 // MIB * MIB, 8 * GIB if on_tmpfs else 33 * GIB)
        self.images = {}
        members = [self.new_member() for _ in range(DATA + PARITY)]
        self.command("create", *members, "--data", DATA, "--parity", PARITY, "--size", bytes_)
        if not on_tmpfs:
            # On a disk there are no extents to be made when the journal gets there for the first time.
            for member in members:
                self.scratch.fill(member, JOURNAL_START, JOURNAL)
        bench.staging = self.configure(pathlib.Path(base, f"etc/{self.name}.toml"), bench.staging)
        self.pid = None
        self.scratch.finally_(self.stop)
        started = json.loads(self.command("start", "--json"))
        self.pid, self.uri = started["pid"], started["uris"][0]

    def configure(self, path, staging):
        """Gives it so much staging memory, if that is said; answers how much it has."""
        text = path.read_text()
        found = re.search(r'(?m)^staging = "([\d.]+)([MG])"$', text)
        if not found:
            raise Trouble(f"{path} has no line for staging in MiB or GiB")
        if staging:
            path.write_text(text.replace(found[0], f'staging = "{staging}"'))
        return staging or int(float(found[1]) * (GIB if found[2] == "G" else MIB))

    def command(self, verb, *args):
        return run(self.binary, verb, self.name, *args, env=self.env)

    def stop(self):
        try:
            self.command("stop")
        except Trouble:
            # None: it was being started, and nobody knows how far that came.
            if self.pid is None:
                return
            raise
        finally:
            if self.pid:
                end_stranger(self.pid)

    def status(self):
        connection = UnixHttp(f"{self.env['PALISADE_RUNTIME_DIR']}/{self.name}/control.sock")
        try:
            connection.request("GET", "/v1/status")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def settle(self):
        """Everything home, durably, and the journal empty: so "clean" is defined."""
        wait_until(f"{self.label} is clean", lambda: self.status()["clean"])

    def new_member(self):
        """A fresh file, or a loop device over one."""
        self.made += 1
        image = self.scratch.image(f"{self.folder}/{self.key}-{self.made}", self.member_bytes)
        member = self.scratch.loop(image) if self.loops else image
        self.images[member] = image
        return member

    def member(self, slot):
        return next(m for m in self.status()["members"] if m["slot"] == slot)

    def fail(self, slot):
        """Takes a member out; answers which."""
        path = self.member(slot)["path"]
        self.command("fail", slot)
        return path

    def take_back(self, paths):
        for path in paths:
            self.command("add", path)
        wait_until(f"{self.label} is whole again", lambda: self.status()["state"] == "optimal")

    def begin_rebuild(self, slot, lost):
        """Fills a fresh member in place of the lost one."""
        new = self.new_member()
        self.command("replace", slot, new)
        if self.loops:
            self.scratch.unloop(lost)
        os.unlink(self.images[lost])

    def wait_rebuilt(self):
        wait_until(f"{self.label} is whole again", lambda: self.status()["state"] == "optimal", step=0.02)

    def rebuild(self, slot):
        """Loses a member and fills another; answers the seconds that took."""
        lost = self.fail(slot)
        begin = time.monotonic()
        self.begin_rebuild(slot, lost)
        self.wait_rebuilt()
        return time.monotonic() - begin

    def scrub(self):
        """Answers verified bytes and seconds."""
        before = (self.status()["scrub"]["last"] or {}).get("number", 0)
        begin = time.monotonic()
        self.command("scrub")
        last = lambda: self.status()["scrub"]["last"] or {}
        wait_until("the scrub ends", lambda: last().get("number", 0) > before, LIMIT_S, 0.02)
        spent, done = time.monotonic() - begin, last()
        if any(done["found"].values()) or done["cancelled"]:
            raise Trouble(f"the scrub of {self.label} found damage: {done['found']}")
        return done["verified_bytes"], spent
