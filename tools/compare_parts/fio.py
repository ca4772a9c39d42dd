"""One fio run, and what it says."""
import dataclasses, json, signal, subprocess

from .system import Trouble, end


@dataclasses.dataclass(frozen=True)
class Job:
    """`depth` requests at once on each of `connections` (of an NBD server), or by as many processes."""
    rw: str
    block: str
    depth: int
    connections: int = 1
    extra: tuple = ()

    def args(self, where, bytes_, seconds=None, io_bytes=None, ramp_s=0):
        """For `seconds`, or until `io_bytes` are moved, or once over `bytes_`."""
        args = ["--name=x", *where, f"--rw={self.rw}", f"--bs={self.block}", f"--iodepth={self.depth}",
                f"--numjobs={self.connections}", f"--size={bytes_}", "--randrepeat=0", "--group_reporting", *self.extra]
        if "rand" in self.rw:
            # Every block is as likely each time, as the disks' limit assumes.
            args.append("--norandommap")
        if seconds:
            args += ["--time_based", f"--runtime={seconds}"]
        if io_bytes:
            args.append(f"--io_size={max(io_bytes // self.connections // 4096, 1) * 4096}")
        if ramp_s:
            args.append(f"--ramp_time={ramp_s}")
        return args


FILL = Job("write", "1m", 8)


class Fio:
    """A run under way."""

    def __init__(self, args):
        self.command = ["fio", *args, "--output-format=json"]
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def interrupt(self):
        """Ends it early; it still says what was so far."""
        self.process.send_signal(signal.SIGINT)

    def finish(self, early=False):
        """What each job says, as fio prints it; nothing, if it was ended before it began."""
        try:
            out, err = self.process.communicate()
        except BaseException:
            # Its processes end with it when it is asked to, not when it is killed.
            end(self.process)
            raise
        try:
            jobs = json.loads(out[out.index("{"):])["jobs"]
        except (ValueError, KeyError):
            jobs = []
        failed = not jobs or self.process.returncode or any(job["error"] for job in jobs)
        if failed and not early:
            raise Trouble(f"{' '.join(self.command)} fails: {(err or out[:2000]).strip()}")
        return jobs


def figures(job, cpu_s=None):
    """What is shown of one job. `cpu_s`: what the server spent meanwhile."""
    side = max((job["read"], job["write"]), key=lambda side: side["total_ios"])
    found = {"iops": side["iops"], "mib_s": side["bw_bytes"] / 2**20, "requests": side["total_ios"],
             "seconds": side["runtime"] / 1000,
             "p99_us": side["clat_ns"].get("percentile", {}).get("99.000000", 0) / 1000}
    if cpu_s is not None and side["total_ios"]:
        found["cpu_us"] = cpu_s / side["total_ios"] * 1e6
    return found


def measure(peer, job, **how):
    """Runs a job against a peer."""
    before = peer.cpu_s()
    found = Fio(job.args(peer.where(), peer.bytes, **how)).finish()[0]
    # Requests of a ramp cost CPU time, and fio does not count them.
    counted = before is not None and not how.get("ramp_s")
    return figures(found, peer.cpu_s() - before if counted else None)


def fill(peer):
    measure(peer, FILL)
