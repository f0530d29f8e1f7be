# SPDX-License-Identifier: Apache-2.0
"""What the tests against qemu-img and qemu-io share: running them, telling results, and random images.

Everything random comes from a seed that is part of the test's name; SEED=n in the environment runs that one only.
"""
import json
import os
import random
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QSNAP = os.environ.get("QSNAP", os.path.join(TOP, "build/qsnap"))
TMP = os.environ.get("TEST_TMP") or tempfile.mkdtemp(prefix="qsnap-interop.")
LONG = os.environ.get("LONG") == "1"


def find_peers():
    out = subprocess.run([os.path.join(TOP, "scripts/peer")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return [line.split(" ", 1) for line in out.stdout.decode().splitlines()]


PEERS = find_peers()
if not PEERS:
    print("no qemu-img to compare with")
    sys.exit(77)
QEMU_IMG = PEERS[-1][1]
QEMU_IO = os.path.join(os.path.dirname(QEMU_IMG), "qemu-io")
MODERN = float(PEERS[-1][0]) >= 10  # its JSON is what ours is compared with


class Wrong(Exception):
    """A property that does not hold; the text says which and how."""


class Done:
    def __init__(self, command, status, out, err):
        self.command, self.status, self.out, self.err = command, status, out, err

    def __str__(self):
        return f"`{' '.join(self.command)}`: status {self.status}\n{self.out[-600:]}{self.err[-600:]}"

    def json(self):
        try:
            return json.loads(self.out)
        except ValueError as why:
            raise Wrong(f"no JSON ({why}) from {self}") from None


def run(*command, want=0, binary=False, timeout=100, **more):
    """Runs it; `want` is the status it must have (None: any)."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=more.pop("stdin", subprocess.DEVNULL),
                              timeout=timeout, check=False, **more)
    except subprocess.TimeoutExpired:
        raise Wrong(f"`{' '.join(command)}` did not finish within {timeout} seconds") from None
    out = done.stdout if binary else done.stdout.decode(errors="replace")
    result = Done(command, done.returncode, out, done.stderr.decode(errors="replace"))
    if want is not None and result.status != want:
        raise Wrong(f"status {want} expected: {result}" if not binary else f"`{' '.join(command)}`: status {result.status}: {result.err}")
    return result


def qsnap(*arguments, **more):
    return run(QSNAP, *arguments, **more)


def qemu_img(*arguments, **more):
    return run(QEMU_IMG, *arguments, **more)


def qemu_io(path, commands, image_format="qcow2", options=()):
    words = [QEMU_IO, "-f", image_format, *options]
    for command in commands:
        words += ["-c", command]
    done = run(*words, path, want=None)
    # QEMU refuses to write a compressed cluster where something is: by chance that happens here
    allowed = sum(command.startswith("write -c") for command in commands)
    if done.status not in (0, 1) or done.out.count("failed") > allowed or (done.status and "failed" not in done.out):
        raise Wrong(f"qemu-io: {done}")


def same_files(a, b):
    if os.path.getsize(a) != os.path.getsize(b):
        raise Wrong(f"{a} has {os.path.getsize(a)} bytes, {b} {os.path.getsize(b)}")
    done = run("cmp", a, b, want=None)
    if done.status:
        raise Wrong(done.out + done.err)


def remove(*paths):
    for path in paths:
        if os.path.exists(path):
            os.unlink(path)


class Report:
    """Prints the lines that tests/run counts."""

    def __init__(self):
        self.failed = 0

    def test(self, name, function, *arguments):
        try:
            function(*arguments)
        except Wrong as why:
            self.failed += 1
            print(str(why).rstrip())
            print(f"not ok {name}", flush=True)
        else:
            print(f"ok {name}", flush=True)

    @staticmethod
    def skip(name, why):
        print(f"skip {name}: {why}", flush=True)

    def seeds(self, count, name, function):
        """One test for each seed; the seed alone decides what is made."""
        only = os.environ.get("SEED")
        for seed in [int(only)] if only else range(count * (25 if LONG else 1)):
            self.test(f"{name} seed {seed}", function, seed)

    def finish(self):
        sys.exit(1 if self.failed else 0)


# ---- random images ----

SIZES = [512 << n for n in range(13)]
# Every value of every option turns up: seed n takes the n-th value of this list as given, the rest by chance.
FORCED = ([{"cluster": size} for size in SIZES] + [{"refcount_bits": 1 << n} for n in range(7)] +
          [{"compat": "0.10"}, {"extended": True}, {"codec": "zstd"}, {"codec": "zlib"}, {"lazy": True}, {"data_file": True},
           {"data_file": True, "data_file_raw": True}] + [{"prealloc": mode} for mode in ("metadata", "falloc", "full")] +
          [{"layers": n} for n in (1, 2, 3, 5)] + [{"layers": 2, "raw_base": True}, {"snapshots": 2}, {"bitmaps": 2},
                                                   {"extended": True, "layers": 3}, {"cluster": 512, "layers": 3}])


def choose(seed):
    """The options of one layer as a dictionary; what cannot go together is left out."""
    rng = random.Random(seed)
    o = {"cluster": rng.choice(SIZES), "compat": rng.choice(["1.1", "1.1", "1.1", "0.10"]), "refcount_bits": 1 << rng.randrange(7),
         "extended": rng.random() < 0.25, "codec": rng.choice(["zlib", "zstd"]), "lazy": rng.random() < 0.2,
         "data_file": False, "data_file_raw": False, "prealloc": rng.choice(["off"] * 5 + ["metadata"]),
         "layers": rng.choice([1, 1, 1, 2, 2, 3]), "raw_base": rng.random() < 0.2, "snapshots": rng.choice([0, 0, 1, 2]),
         "bitmaps": rng.choice([0, 0, 0, 1])}
    forced = FORCED[seed % len(FORCED)]
    o.update(forced)
    settle(o, forced)
    return o, rng


def settle(o, forced):
    if o["compat"] == "0.10" and "compat" not in forced and any(key in forced for key in ("refcount_bits", "extended", "codec", "lazy",
                                                                                            "data_file", "bitmaps")):
        o["compat"] = "1.1"
    if o["compat"] == "0.10":
        o.update(refcount_bits=16, extended=False, codec="zlib", lazy=False, data_file=False, data_file_raw=False, bitmaps=0)
    if o["extended"] and o["cluster"] < 16384:
        if "extended" in forced:
            o["cluster"] = 65536
        else:
            o["extended"] = False
    if o["data_file"]:
        o.update(snapshots=0, codec="zlib", prealloc="off" if o["prealloc"] == "full" else o["prealloc"])
        if o["data_file_raw"]:
            o.update(layers=1)
    if o["snapshots"] and o["refcount_bits"] < 4:
        if "refcount_bits" in forced:
            o["snapshots"] = 0
        else:
            o["refcount_bits"] = 16
    if o["prealloc"] != "off" and o["layers"] > 1 and not o["extended"]:
        if "prealloc" in forced:
            o["layers"] = 1
        else:
            o["prealloc"] = "off"


def options(o):
    words = [f"cluster_size={o['cluster']}", f"compat={o['compat']}"]
    if o["compat"] == "1.1":
        words += [f"refcount_bits={o['refcount_bits']}", f"lazy_refcounts={'on' if o['lazy'] else 'off'}",
                  f"extended_l2={'on' if o['extended'] else 'off'}"]
        if o["codec"] != "zlib":
            words.append(f"compression_type={o['codec']}")
    if o["prealloc"] != "off":
        words.append(f"preallocation={o['prealloc']}")
    return ",".join(words)


def writes(rng, size, o, count):
    """qemu-io commands: data, zeros, discards and compressed clusters here and there."""
    cluster, commands = o["cluster"], []
    for _ in range(count):
        kind = rng.random()
        start = rng.randrange(size // 512) * 512
        length = min(size - start, rng.choice([512, 4096, cluster, 3 * cluster, rng.randrange(1, 1 + 2 * cluster // 512) * 512]))
        whole = start // cluster * cluster
        pattern = rng.randrange(1, 256)
        if kind < 0.5:
            commands.append(f"write -P {pattern} {start} {length}")
        elif kind < 0.6:
            commands.append(f"write -z {start} {length}")
        elif kind < 0.7 and o["compat"] == "1.1":
            commands.append(f"write -z -u {whole} {min(cluster * rng.choice([1, 4]), size - whole)}")
        elif kind < 0.78:
            commands.append(f"discard {whole} {min(cluster * 2, size - whole)}")
        elif not o["data_file"]:
            commands.append(f"write -c -P {pattern} {whole} {min(cluster, size - whole)}")
    return commands


class Image:
    """A random chain below `folder`: .path is its top, .names its snapshots."""

    def __init__(self, seed, folder):
        self.options, self.rng = choose(seed)
        self.folder, self.files, self.names = folder, [], []
        os.makedirs(folder, exist_ok=True)
        o = self.options
        below, below_format = None, None
        scale = max(o["cluster"] * 20, 64 << 10)
        self.size = self.rng.randrange(scale // 512, 3 * scale // 512) * 512
        for layer in range(o["layers"] - 1, -1, -1):
            layer_o = dict(o)
            if layer:
                other, _ = choose(self.rng.randrange(1000) + 1000 * len(FORCED))
                layer_o.update({k: other[k] for k in ("cluster", "compat", "refcount_bits", "extended", "codec", "lazy")})
                layer_o.update(data_file=False, data_file_raw=False, prealloc="off", snapshots=0, bitmaps=0)
                layer_o["cluster"] = min(layer_o["cluster"], 8 * o["cluster"])
                settle(layer_o, {})
            size = self.size if layer == 0 else max(512, int(self.size * self.rng.choice([1, 1, 0.5, 1.3])) // 512 * 512)
            below, below_format = self.add_layer(layer, layer_o, size, below, below_format)
        self.path = below

    def add_layer(self, layer, o, size, below, below_format):
        path = os.path.join(self.folder, f"layer{layer}.img")
        self.files.append(path)
        if below is None and self.options["raw_base"] and layer:
            with open(path, "wb") as file:
                for _ in range(3):
                    file.seek(self.rng.randrange(size))
                    file.write(self.rng.randbytes(min(3000, size - file.tell())))
                file.truncate(size)
            return path, "raw"
        words = ["create", "-q", "-f", "qcow2", "-o", options(o)]
        if o["data_file"]:
            words[-1] += f",data_file={path}.data,data_file_raw={'on' if o['data_file_raw'] else 'off'}"
        if below:
            words += ["-b", os.path.basename(below), "-F", below_format]
        qemu_img(*words, path, size)
        steps = [writes(self.rng, size, o, self.rng.randrange(2, 12)) for _ in range(1 + o["snapshots"])]
        for number, commands in enumerate(steps):
            if number:
                self.names.append(f"snap{number}")
                qemu_img("snapshot", "-c", f"snap{number}", path)
            if commands:
                qemu_io(path, commands)
        for number in range(o["bitmaps"]):
            qemu_img("bitmap", "--add", "-f", "qcow2", path, f"bitmap{number}")
        return path, "qcow2"

    def __str__(self):
        return f"size {self.size}, {self.options}"


def image(seed):
    """A random chain in a folder that is emptied for it."""
    folder = os.path.join(TMP, "image")
    subprocess.run(["rm", "-rf", folder], check=True)
    try:
        return Image(seed, folder)
    except Wrong as why:
        raise SystemExit(f"seed {seed}: qemu could not make the image: {why}") from None
