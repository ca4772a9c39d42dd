"""The array under test, its daemon, and what was done to its members."""
import json, os, pathlib, re, signal, subprocess, time

import nbd

from .damage import Damage
from .volume import Failed

# Longest any command may take, in seconds; far more than it needs.
LIMIT = 300


class Array:
    """In a folder of its own.

    Of each slot `paths` says where its member is, and `harmed` what was done to it:

        whole --damage--> damaged --scrub ends well, or replace--> whole
        whole --delete--> removed --replace----------------------> whole
        whole --rename--> away ----come back--> returned --taken back, or replace--> whole
        whole --an older copy of it in its place--------> returned

    At most as many slots as parity replaces are harmed at once. `unseen` holds those whose member the
    daemon may never have missed: it is still current.
    """

    def __init__(self, args, folder):
        self.binary, self.folder, self.parity = os.path.abspath(args.palisade), folder, args.parity
        self.env = dict(os.environ, PALISADE_CONFIG_DIR=f"{folder}/etc", PALISADE_RUNTIME_DIR=f"{folder}/run",
                        PALISADE_STATE_DIR=f"{folder}/state")
        self.member_bytes = args.member_size << 20
        self.paths = [f"{folder}/m{i}" for i in range(args.data + args.parity)]
        self.made, self.harmed, self.unseen, self.outcasts = len(self.paths), {}, set(), []
        self.images = {}
        self.starts, self.count = [], dict.fromkeys(
            ["kills", "kills while starting", "removed", "taken away", "returned", "older images", "outcasts shown", "damaged",
             "replaced", "scrubs", "blocks repaired by scrubs"], 0)
        self.run("create", "crash", *self.paths, "--data", str(args.data), "--parity", str(args.parity),
                 "--member-size", str(self.member_bytes))
        self.config = pathlib.Path(folder, "etc/crash.toml")
        text = self.config.read_text().replace('threads = "auto"', f"threads = {args.threads}")
        self.config.write_text(text.replace("probe_interval_ms = 1000", "probe_interval_ms = 200"))
        examined = json.loads(self.run("examine", self.paths[0], "--json"))[0]
        self.shape = (args.data, args.data + args.parity, examined["chunk_bytes"])
        self.damage = Damage(examined)

    def run(self, *args, ends=(0,)):
        try:
            done = subprocess.run([self.binary, *args], env=self.env, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise Failed(f"palisade {' '.join(args)} does not end") from None
        if done.returncode not in ends:
            raise Failed(f"palisade {' '.join(args)} ends with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    # The daemon.

    def start(self):
        begin = time.monotonic()
        self.run("start", "crash")
        self.starts.append(time.monotonic() - begin)
        self.unseen = {slot for slot in self.unseen if self.harmed[slot] == "returned"}
        self.judge()

    def start_and_kill(self, after):
        """Kills it while it replays, or shortly after."""
        daemon = subprocess.Popen([self.binary, "start", "crash", "--foreground"], env=self.env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        early = daemon.poll()
        daemon.kill()
        daemon.wait()
        if early is not None:
            raise Failed(f"the daemon ended with {early} {after:.3f} s after its start")
        self.count["kills while starting"] += 1

    def pid(self):
        return int(pathlib.Path(self.folder, "run/crash/pid").read_text())

    def kill(self):
        os.kill(self.pid(), signal.SIGKILL)
        self.count["kills"] += 1

    def wait_dead(self):
        """Until the killed daemon can write no more."""
        stat = pathlib.Path(f"/proc/{self.pid()}/stat")
        for _ in range(LIMIT * 100):
            try:
                if stat.read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                    return
            except OSError:
                return
            time.sleep(0.01)
        raise Failed("the killed daemon does not end")

    def connect(self):
        handle = nbd.NBD()
        handle.connect_uri(f"nbd+unix:///crash?socket={self.folder}/run/crash/nbd.sock")
        return handle

    def status(self):
        return json.loads(self.run("status", "crash", "--json"))

    def rows(self, slot, status=None):
        return [m for m in (status or self.status())["members"] if m["slot"] == slot]

    def judge(self):
        """Nobody is lost but whom something was done to, and nobody serves who missed something."""
        status = self.status()
        for slot, path in enumerate(self.paths):
            rows = self.rows(slot, status)
            serves = [m for m in rows if m["state"] == "in-sync"]
            how = self.harmed.get(slot)
            if not how and not serves:
                raise Failed(f"slot {slot} is lost though nothing was done to it: {rows}")
            if how in ("removed", "away") and slot not in self.unseen:
                if any(m["path"] == path or "/away" in m["path"] for m in serves):
                    raise Failed(f"slot {slot} was {how} and serves: {rows}")
        # While another is still being filled the old one is a stale member.
        serves = [m for m in status["members"] if m["path"] in self.outcasts and m["state"] not in ("stale", "faulty")]
        for member in serves:
            if self.harmed.get(member["slot"]) != "being replaced":
                raise Failed(f"a member that was replaced serves again: {member}")
            rows = [m for m in self.rows(member["slot"], status) if m["path"] == self.paths[member["slot"]]]
            if any(m["state"] == "rebuilding" for m in rows):
                continue  # it serves until the other is filled
            # Its replacement was not filled, or not even listed, when the daemon was killed.
            self.outcasts.remove(member["path"])
            self.paths[member["slot"]], self.harmed[member["slot"]] = member["path"], "returned"

    # What is done to members.

    def budget(self):
        return self.parity - len(self.harmed)

    def whole(self):
        return [slot for slot in range(len(self.paths)) if slot not in self.harmed]

    def hurt(self, slot, rnd, live):
        self.harmed[slot] = "damaged"
        self.count["damaged"] += 1
        self.damage.hurt(self.paths[slot], rnd, live)

    def remove(self, slot):
        self.harmed[slot] = "removed"
        self.count["removed"] += 1
        os.remove(self.paths[slot])

    def take_away(self, slot, live):
        self.harmed[slot] = "away"
        self.count["taken away"] += 1
        os.rename(self.paths[slot], f"{self.folder}/away{slot}")
        if live:
            self.unseen.add(slot)

    def bring_back(self, slot, rnd, live):
        """At its old path, or, while no daemon runs, under another name; listed, so that it is looked at."""
        self.count["returned"] += 1
        self.harmed[slot] = "returned"
        if not live and rnd.random() < 0.4:
            self.paths[slot] = self.new_path()
        os.rename(f"{self.folder}/away{slot}", self.paths[slot])
        if not live:
            self.list(self.paths[slot])

    def copy_away(self, slot):
        """As a backup of the member's file would."""
        subprocess.run(["cp", "--sparse=always", self.paths[slot], f"{self.folder}/image{slot}"], check=True)
        self.images[slot] = self.paths[slot]

    def put_image_back(self, slot):
        """An older copy in the place of the member, while no daemon runs."""
        self.harmed[slot] = "returned"
        self.count["older images"] += 1
        del self.images[slot]
        os.rename(f"{self.folder}/image{slot}", self.paths[slot])

    def has_image(self, slot):
        return self.images.get(slot) == self.paths[slot]

    def show_outcast(self, path):
        """A member whose place another one took is listed again."""
        self.count["outcasts shown"] += 1
        self.list(path)

    def list(self, path):
        text = self.config.read_text()
        if f'"{path}"' not in text:
            self.config.write_text(re.sub(r"(?m)^members = \[", f'members = [\n    "{path}",', text))

    def new_path(self):
        self.made += 1
        return f"{self.folder}/m{self.made}"

    # Healing.

    def new_member(self, slot, rnd):
        """What is to take the slot: a new file or, with --force, the one that came back or was damaged."""
        path = self.paths[slot]
        if self.harmed[slot] != "removed" and os.path.exists(path) and rnd.random() < 0.7:
            if all(m["state"] != "in-sync" for m in self.rows(slot)):
                return path, ["--force"]
        if self.harmed[slot] == "away":
            self.outcasts.append(f"{self.folder}/away{slot}-{self.made}")
            os.rename(f"{self.folder}/away{slot}", self.outcasts[-1])
        elif os.path.exists(path):
            self.outcasts.append(path)
        new = self.new_path()
        with open(new, "wb") as file:
            file.truncate(self.member_bytes)
        return new, []

    def begin_replace(self, slot, rnd, wait):
        new, options = self.new_member(slot, rnd)
        self.count["replaced"] += 1
        self.paths[slot], self.harmed[slot] = new, "being replaced"
        # What a copy shows was removed now, though the new member be at the same path.
        self.images.pop(slot, None)
        self.run("replace", "crash", str(slot), new, *options, *(["--wait"] if wait else []))

    def scrub(self):
        """Must repair everything. One that runs may have passed what was damaged since."""
        self.run("scrub", "crash", "--cancel")
        found = json.loads(self.run("scrub", "crash", "--repair", "--wait", "--json"))
        self.count["scrubs"] += 1
        self.count["blocks repaired by scrubs"] += found["found"]["repaired"]

    def heal(self, rnd):
        """Afterwards all members are whole."""
        self.run("rebuild", "crash", "--max-rate", "0")
        if rnd.random() < 0.3:
            self.scrub()
        for slot in list(self.harmed):
            rows = self.rows(slot)
            if self.harmed[slot] == "returned" or any(m["state"] == "rebuilding" for m in rows):
                self.wait(slot)
            elif all(m["state"] != "in-sync" for m in rows) or rnd.random() < 0.3:
                self.begin_replace(slot, rnd, True)
        if "damaged" in self.harmed.values():
            self.scrub()
        # One whose superblock was damaged may have been thrown out only now.
        for slot in list(self.harmed):
            if all(m["state"] != "in-sync" for m in self.rows(slot)):
                self.begin_replace(slot, rnd, True)
        status = self.status()
        if status["state"] != "optimal":
            raise Failed(f"the array is not optimal though everything was healed: {status['problems']}")
        self.harmed.clear()
        self.unseen.clear()

    def wait(self, slot):
        end = time.monotonic() + LIMIT
        back = self.harmed[slot] == "returned"
        while any(m["state"] == "rebuilding" or back and m["state"] != "in-sync" for m in self.rows(slot)):
            if time.monotonic() > end:
                raise Failed(f"the rebuild of slot {slot} does not end")
            time.sleep(0.05)
