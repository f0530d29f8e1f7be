# SPDX-License-Identifier: Apache-2.0
"""What bench/run measures (JOBS: one set of commands run in turn) and what is demanded of it (TARGETS: a line of the table)."""
from dataclasses import dataclass, field

PEER = ["convert", "-W", "-m", "16"]
MIB = 1 << 20


@dataclass
class Job:
    key: str
    source: str  # a name of sources.Cache
    place: str  # tmpfs, disk, xfs, btrfs
    ours: dict  # label -> arguments; SRC and OUT stand for the files
    peers: dict
    format: str = "raw"  # of the output
    rounds: int = 3
    judge: bool = True  # qemu-img compares the first output, too
    once: tuple = field(default_factory=tuple)
    changes: tuple = ()  # files of the chain that the commands change, the top first: copied anew before each run
    shows: int | None = None  # which of these must then read as the top did
    like: int | None = None  # the changed file must then read as this one of the source's
    stdin: int | None = None  # this one of the source's files is what the commands read
    peer: str = "qemu-img"  # qemu-io: the program of the same package
    beside: dict = field(default_factory=dict)  # label -> arguments for build/bench-tables, which reads tables and no more


def convert(key, source, place, output, options=(), **more):
    arguments = ["-f", "qcow2", "-O", output, *options, "SRC", "OUT"]
    return Job(key, source, place, {"": ["convert", *arguments]}, {"": PEER + arguments}, output, **more)


def compress(key, source, codec, **more):
    arguments = ["-f", "qcow2", "-O", "qcow2", "-c", "-o", f"compression_type={codec}", "SRC", "OUT"]
    fastest = [a.replace("=" + codec, f"={codec},compression_level=fastest") for a in arguments]
    ours = {"": ["convert", *arguments], "fastest": ["convert", *fastest],
            "1 thread": ["convert", "--threads", "1", *arguments], "2 threads": ["convert", "--threads", "2", *arguments]}
    if codec == "zstd":
        del ours["fastest"]
    return Job(key, source, "tmpfs", ours, {"": PEER + arguments}, "qcow2", **more)


def reflink(place, output):
    arguments = ["-f", "qcow2", "-O", output, "SRC", "OUT"]
    return Job(f"{place}-{output}", "plain", place, {"": ["convert", *arguments]},
               {"": PEER + arguments, "-C": ["convert", "-C", *arguments]}, output)


def both(key, source, arguments, place="disk", rounds=7):
    return Job(key, source, place, {"": arguments}, {"": arguments}, rounds=rounds)


def in_place(key, source, arguments, shows):
    return Job(key, source, "tmpfs", {"": arguments}, {"": arguments}, "qcow2", rounds=5, changes=(0, -1), shows=shows)


def repair(key, source, what):
    """Nothing is left to repair afterwards, as a status of 0 tells."""
    arguments = ["check", "-q", "-f", "qcow2", "-r", what, "SRC"]
    return Job(key, source, "tmpfs", {"": arguments}, {"": arguments}, "qcow2", rounds=3, changes=(0,))


def snapshot(action, source):
    arguments = ["snapshot", action, "s", "SRC"]
    return Job(f"snapshot {action}", source, "disk", {"": arguments}, {"": arguments}, "qcow2", rounds=5, changes=(0,))


def writes(key, source, place, **more):
    """The source: an image, the same after the commands, the commands."""
    return Job(key, source, place, {"": ["io", "-f", "qcow2", "SRC"]}, {"": ["-t", "writeback", "-f", "qcow2", "SRC"]}, "qcow2", changes=(0,),
               like=1, stdin=2, peer="qemu-io", **more)


DIRECT = ("-t", "none", "-T", "none")
JOBS = [
    convert("zlib-raw", "zlib", "tmpfs", "raw"),
    convert("zstd-raw", "zstd", "tmpfs", "raw"),
    convert("plain-raw", "plain", "tmpfs", "raw", rounds=5),
    convert("plain-qcow2", "plain", "tmpfs", "qcow2", rounds=5),
    convert("direct-raw", "plain", "disk", "raw", DIRECT, rounds=5),
    compress("compress-zlib", "plain", "zlib"),
    compress("compress-zstd", "plain", "zstd"),
    convert("recompress", "pair", "tmpfs", "qcow2", ("-c",)),
    convert("chain", "chain", "tmpfs", "raw"),
    reflink("xfs", "raw"), reflink("xfs", "qcow2"), reflink("btrfs", "raw"), reflink("btrfs", "qcow2"),
    both("info", "large", ["info", "--output=json", "SRC"], rounds=21),
    both("check", "large", ["check", "-f", "qcow2", "SRC"]),
    repair("repair-leaked", "leaked", "leaks"), repair("repair-corrupted", "corrupted", "all"),
    both("map", "large", ["map", "--output=json", "-f", "qcow2", "SRC"]),
    both("measure", "large", ["measure", "-O", "qcow2", "-f", "qcow2", "SRC"]),
    Job("diff", "states", "disk", {"": ["diff", "--from", "s1", "--to", "s2", "--json", "SRC"]}, {},
        beside={"plain reading": ["SRC", "s1", "s2"]}, rounds=7),
    snapshot("-c", "large"), snapshot("-a", "saved"), snapshot("-d", "saved"),
    writes("write", "written", "tmpfs"), writes("write-large", "written_large", "disk"),
    in_place("rebase", "chain64", ["rebase", "-f", "qcow2", "-b", "BASE", "-F", "qcow2", "SRC"], 0),
    in_place("commit", "chain64", ["commit", "-f", "qcow2", "-b", "BASE", "SRC"], 1),
    Job("huge", "huge", "disk", {"": ["convert", "-f", "qcow2", "-O", "qcow2", "SRC", "OUT"]},
        {"": PEER + ["-f", "qcow2", "-O", "qcow2", "SRC", "OUT"]}, "qcow2", rounds=1, judge=False),
    Job("deep", "deep", "tmpfs", {"": ["convert", "-f", "qcow2", "-O", "raw", "SRC", "OUT"]},
        {"": PEER + ["-f", "qcow2", "-O", "raw", "SRC", "OUT"]}, "raw", rounds=1),
]


@dataclass
class Target:
    title: str
    job: str
    ratio: float = 0  # so many times faster than the faster peer
    cpu: float = 0  # at most so many times the CPU seconds of the faster peer; 0: not demanded
    size: float = 0  # output at most so many times the peer's
    rss: int = 128 * MIB
    ours: str = "qsnap"
    peer: str = ""  # which of the peers' commands; "*": all
    against: str = ""  # another contender of ours instead of the peers


TARGETS = [
    Target("deflate-compressed → raw, tmpfs", "zlib-raw", 2.5, cpu=0.5),
    Target("zstd-compressed → raw, tmpfs", "zstd-raw", 2.0),
    Target("uncompressed → raw, tmpfs", "plain-raw", 1.2, cpu=1.0),
    Target("uncompressed → qcow2, tmpfs", "plain-qcow2", 1.2, cpu=1.0),
    Target("uncompressed → raw, ext4, `-t none -T none`", "direct-raw", 1.5),
    Target("`-c`, deflate", "compress-zlib", 6, size=1.0),
    Target("`-c -o compression_level=fastest`, deflate", "compress-zlib", 12, size=1.10, ours="qsnap fastest"),
    Target("`-c`, zstd", "compress-zstd", 1.8, size=1.0),
    Target("compressed → compressed, chain of 2", "recompress", 15),
    Target("chain of 32 overlays → raw, tmpfs", "chain", 2.5),
    Target("uncompressed → raw, XFS", "xfs-raw", 10),
    Target("the same against `-C`", "xfs-raw", 1, peer="-C"),
    Target("uncompressed → qcow2, XFS", "xfs-qcow2", 10),
    Target("the same against `-C`", "xfs-qcow2", 1, peer="-C"),
    Target("uncompressed → raw, btrfs", "btrfs-raw", 10),
    Target("the same against `-C`", "btrfs-raw", 1, peer="-C"),
    Target("uncompressed → qcow2, btrfs", "btrfs-qcow2", 10),
    Target("the same against `-C`", "btrfs-qcow2", 1, peer="-C"),
    Target("`info`, 1 TiB preallocated metadata", "info", 1),
    Target("`check` of it", "check", 4),
    Target("`check -r leaks` of it, 1 % leaked, tmpfs", "repair-leaked", 4),
    Target("`check -r all` of it, 1 % of refcounts and of COPIED bits wrong, tmpfs", "repair-corrupted", 4),
    Target("`map --output=json` of it", "map", 4),
    Target("`measure` of it", "measure", 4),
    Target("`diff` of two snapshots of it, 1 % changed, against reading their tables", "diff", 0.5, against="plain reading"),
    Target("`snapshot -c` of it, ext4", "snapshot -c", 15, rss=64 * MIB),
    Target("`snapshot -a` of it", "snapshot -a", 15, rss=64 * MIB),
    Target("`snapshot -d` of it", "snapshot -d", 15, rss=64 * MIB),
    Target("20000 random writes of 4 KiB into 8 GiB with a snapshot, flush, tmpfs", "write", 1, rss=64 * MIB),
    Target("2000 of them into 1 TiB with a snapshot, ext4", "write-large", 1, rss=64 * MIB),
    Target("`rebase` of a 64-deep chain onto its base, tmpfs", "rebase", 3),
    Target("`commit` of a 64-deep chain into its base, tmpfs", "commit", 3),
    Target("8 TiB, fragmented → qcow2 (memory)", "huge", 0, rss=256 * MIB),
    Target("chain of 200 layers → raw (memory)", "deep", 0, rss=256 * MIB),
    Target("`-c` deflate, 2 threads against 1", "compress-zlib", 1.8, ours="qsnap 2 threads", against="qsnap 1 thread"),
    Target("`-c` zstd, 2 threads against 1", "compress-zstd", 1.8, ours="qsnap 2 threads", against="qsnap 1 thread"),
]


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def peers_of(target, contenders):
    if target.against:
        return {target.against: contenders[target.against]} if target.against in contenders else {}
    found = {}
    for label, result in contenders.items():
        words = label.split(" ", 2)
        if words[0] in ("qemu-img", "qemu-io") and " ".join(words[2:]) == target.peer and not result["wrong"]:
            found[label] = result
    return found


def line(target, results):
    """Cells of one line of the table, or None when it was not measured."""
    job = results["jobs"].get(target.job)
    if not job or target.ours not in job["contenders"]:
        return None
    ours = job["contenders"][target.ours]
    peers = peers_of(target, job["contenders"])
    if not peers:
        return None
    name, best = min(peers.items(), key=lambda item: item[1]["seconds"])
    ratio = best["seconds"] / ours["seconds"]
    wants, misses = [], []

    def demand(text, met, got):
        wants.append(text)
        if not met:
            misses.append(got)
    if target.ratio:
        demand(f"≥ {target.ratio:g}×", ratio >= target.ratio, f"{ratio:.2f}×")
    if target.cpu:
        part = ours["cpu"] / best["cpu"]
        demand(f"CPU ≤ {target.cpu:g}", part <= target.cpu, f"CPU {part:.2f}")
    if target.size:
        part = ours["size"] / best["size"]
        demand(f"size ≤ {target.size:g}", part <= target.size, f"size {part:.3f}")
    demand(f"< {target.rss // MIB} MiB", ours["rss"] < target.rss, f"{ours['rss'] / MIB:.0f} MiB")
    if ours["wrong"]:
        misses.append("failed: " + ours["wrong"])
    size = f"{ours['size'] / best['size']:.3f}" if ours.get("size") and best.get("size") and not target.against else ""
    return [target.title, seconds(ours["seconds"]), f"{seconds(best['seconds'])} ({name.removeprefix('qemu-img ')})", f"{ratio:.2f}×",
            f"{ours['cpu']:.2f} / {best['cpu']:.2f} s", f"{ours['rss'] / MIB:.0f} / {best['rss'] / MIB:.0f} MiB", size,
            ", ".join(wants), "yes" if not misses else "**no**: " + ", ".join(misses)]


def table(results):
    head = ["job", "qsnap", "faster peer", "times faster", "CPU", "memory", "size", "target", "met"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    missing = []
    for target in TARGETS:
        cells = line(target, results)
        if cells:
            lines.append("| " + " | ".join(cells) + " |")
        else:
            missing.append(target.title)
    if missing:
        lines.append("\nNot measured: " + "; ".join(missing) + ".")
    return "\n".join(lines)


def commands(results):
    lines = []
    for key, job in results["jobs"].items():
        lines += [f"{key:16} {label:22} {r['command']}   [{', '.join(map(str, r['runs']))} s]" for label, r in job["contenders"].items()]
    return "\n".join(lines)


def update_readme(results, path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    begin, end = "<!-- bench begins -->\n", "<!-- bench ends -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{path}: no marks for the table")
    if not results["jobs"] or results.get("quick"):
        raise SystemExit("no results of a full run")
    m = results["machine"]
    about = (f"`make bench` on {m['cores']} cores of {m['cpu']}, {m['memory_gib']} GiB of memory, Linux {m['kernel']}; peers: qemu-img "
             f"{' and '.join(m['peers'])}; the disk: 8 GiB of ext4 with {results['content'] / 1e9:.2f} GB of files. Medians; CPU, memory "
             "and size: qsnap's and the faster peer's.\n\n")
    shown = "\n\n<details><summary>The commands, and the seconds of each run</summary>\n\n```\n" + commands(results) + "\n```\n</details>\n"
    head, rest = text.split(begin, 1)
    with open(path, "w", encoding="utf-8") as file:
        file.write(head + begin + about + table(results) + shown + end + rest.split(end, 1)[1])
    return 0
