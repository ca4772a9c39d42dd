"""The codec beside ISA-L and reed-solomon-erasure: `benches/codec.rs`, which is built first."""
import pathlib, re, subprocess

from .system import Trouble

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# reed-solomon-erasure in its fast form.
COMMAND = ["cargo", "bench", "--bench", "codec", "--features", "reed-solomon-erasure/simd-accel"]
# Criterion's own --quick does not say what it measured in this format.
QUICK = ["--warm-up-time", "0.05", "--measurement-time", "0.1", "--sample-size", "10"]
# Neither the readable reference nor what a CPU with anything better never uses.
ENGINES = "(gfni.*|avx.*|neon|portable|reed-solomon-erasure|isa-l)"
SHAPES = {"4+2": 4, "8+3": 8, "10+4": 10, "16+4": 16}
OPERATIONS = ("encode", "decode m lost", "decode 1 lost")
SHARD_BYTES = 64 << 10
# How the figures of each are called, and in what order they stand.
LABELS = {"codec": "palisade", "codec-portable": "palisade, portable", "isa-l": "ISA-L",
          "reed-solomon-erasure": "reed-solomon-erasure"}
LINE = re.compile(r"^test (.+)/(.+)/(\d+\+\d+) \.\.\. bench:\s+([\d,]+) ns/iter", re.M)


class Codec:
    key, label, tools, space = "codec", "the codec", ("cargo",), 0

    def __init__(self, _bench, _bytes):
        self.run("--no-run")

    def settle(self):
        """It stores nothing."""

    def run(self, *args):
        try:
            done = subprocess.run([*COMMAND, *args], cwd=REPOSITORY, capture_output=True, text=True, timeout=3600)
        except subprocess.TimeoutExpired:
            raise Trouble(f"{' '.join(COMMAND)} has not ended in an hour") from None
        if done.returncode:
            raise Trouble(f"{' '.join(COMMAND)} ends with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def rates(self, quick):
        """Yields operation and shape, whose, and GB of data read in a second. The best engine is the first named."""
        args = ["--output-format", "bencher", *(QUICK if quick else ())]
        found = self.run("--", *args, f"(encode|decode.*)/{ENGINES}/")
        best = None
        for operation, engine, shape, ns in LINE.findall(found):
            best = best or engine
            key = engine if engine in LABELS else {best: "codec", "portable": "codec-portable"}.get(engine)
            if key:
                gb_s = SHAPES[shape] * SHARD_BYTES / int(ns.replace(",", ""))
                yield f"{operation} {shape}", key, {"gb_s": gb_s, "engine": engine}
        if not best:
            raise Trouble(f"{' '.join(COMMAND)} printed no figures")
