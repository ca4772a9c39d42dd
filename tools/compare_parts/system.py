"""What is asked of the machine: commands, image files, loop devices, CPU time; and that all of it is
given back at the end, however that comes."""
import contextlib, os, pathlib, platform, shutil, signal, subprocess, sys, tempfile, time

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Longest any single command may take, in seconds; far more than it needs.
LIMIT_S = 3600
# Program, and the Debian package that has it.
PACKAGES = {
    "fio": "fio", "qemu-nbd": "qemu-utils", "nbdkit": "nbdkit", "btrfs": "btrfs-progs", "mkfs.btrfs": "btrfs-progs",
    "losetup": "mount", "mount": "mount", "umount": "mount", "mdadm": "mdadm", "blockdev": "util-linux",
    "cargo": "cargo",
}


class Trouble(Exception):
    """Ends the run with a message."""


def need(programs):
    """Says at once, and all together, what is not installed."""
    missing = sorted({PACKAGES[p] for p in programs if not shutil.which(p)})
    if missing:
        raise Trouble(f"please install what these Debian packages hold: {' '.join(missing)}; or leave peers out "
                      "with --without")


def run(*args, env=None):
    args = [str(a) for a in args]
    try:
        done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    except FileNotFoundError:
        raise Trouble(f"{args[0]} is not there") from None
    if done.returncode:
        raise Trouble(f"{' '.join(args)} ends with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_until(what, holds, seconds=600, step=0.05):
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise Trouble(f"{what}: still not so after {seconds} s")
        time.sleep(step)


def end(process):
    """Ends a program that this one started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_stranger(pid):
    """Waits for the end of a program that was started for us and told to end; not for long."""
    def gone():
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True
    try:
        wait_until(f"process {pid} ends", gone, 10)
    except Trouble:
        os.kill(pid, signal.SIGKILL)
        raise


def cpu_seconds(pid):
    """User and system time of all threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_mib(pid, field):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise Trouble(f"process {pid} does not tell its {field}")


def free_bytes(folder):
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def file_system(folder):
    """Kind of the file system a folder lies on."""
    best = ("", "?")
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind = line.split()[:3]
        inside = os.path.realpath(folder).startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]


def machine(folder):
    """The machine in one line; no names and no paths, for it is published."""
    cpu = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    return (f"{cpu}, {len(os.sched_getaffinity(0))} CPUs, {memory:.0f} GiB of memory, Linux {platform.release()}, "
            f"files on {file_system(folder)}")


class Scratch:
    """Folders, files, loops, mounts and daemons of one run. What is made here is undone in reverse order."""

    def __init__(self, folder, tmpfs):
        self.undo, self.folders = contextlib.ExitStack(), []
        try:
            self.disk = self._folder(folder)
            self.tmpfs = self._folder(tmpfs) if tmpfs else None
            # Sockets: their paths may have no more than 107 bytes, whatever --dir is.
            self.runtime = self._folder(None)
        except BaseException:
            self.undo.close()
            raise
        self.finally_(self.unloop_all)

    def _folder(self, parent):
        try:
            made = os.path.realpath(tempfile.mkdtemp(prefix="plsd-", dir=parent))
        except OSError as why:
            raise Trouble(f"cannot make a folder in {parent}: {why.strerror}") from None
        self.folders.append(made)
        self.undo.callback(shutil.rmtree, made, ignore_errors=True)
        return made

    def finally_(self, what, *args):
        """Has `what` called at the end; what fails then does not keep the rest from being undone."""
        def guarded():
            try:
                what(*args)
            except (Trouble, OSError) as why:
                print(f"tools/compare: while cleaning up: {why}", file=sys.stderr)
        self.undo.callback(guarded)

    def image(self, path, bytes_):
        """Makes a sparse file."""
        with open(path, "wb") as f:
            f.truncate(bytes_)
        return path

    def fill(self, path, start, bytes_):
        """Writes zeroes where there are none yet but holes."""
        with open(path, "r+b") as f:
            f.seek(start)
            for _ in range(bytes_ // MIB):
                f.write(bytes(MIB))
            f.flush()
            os.fsync(f.fileno())

    def loop(self, image):
        """A loop device over a file, without the page cache in between. A tmpfs is that cache."""
        direct = "off" if file_system(image) == "tmpfs" else "on"
        return run("losetup", "--find", "--show", f"--direct-io={direct}", image).strip()

    def unloop(self, device):
        run("losetup", "-d", device)

    def unloop_all(self):
        """Lets go of every loop device over a file of this run, also of one that was being made when it ended."""
        for backing in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                if backing.read_text().startswith(tuple(folder + "/" for folder in self.folders)):
                    self.unloop(f"/dev/{backing.parts[3]}")

    def members(self, name, count, bytes_, loops, folder=None):
        """Image files for the members of an array, or loop devices over them."""
        images = [self.image(f"{folder or self.disk}/{name}{i}", bytes_) for i in range(count)]
        return [(image, self.loop(image) if loops else image) for image in images]

    def daemon(self, *args):
        """Starts a server in a session of its own: Ctrl-C is for this program, which ends it in its turn."""
        process = subprocess.Popen([str(a) for a in args], start_new_session=True, stdout=subprocess.DEVNULL)
        self.finally_(end, process)
        return process

    def close(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.undo.close()
