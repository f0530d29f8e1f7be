#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of tests/images. usage: run.py [CASE...]      QSNAP=path of qsnap (default build/qsnap)
QSNAP_AGAIN=another build of it, for what one with sanitizers need not do a second time (default: the same)

CASE/expect has lines `word: value`; a `#` begins a comment line:
  check: STATUS                  of `qsnap check`; 0, 1, 2, 3
  corruptions: N, leaks: N, errors: N   of its JSON, 0 if not given
  finding: TEXT                  on its standard error, any number of times
  info: STATUS                   of `qsnap info`, 0 if not given
  read: STATUS                   of `qsnap convert -O raw`; with 0 the output must be the file `expected` if make.py made one
  snapshot: NAME                 read this snapshot of the image
  error: TEXT                    what every failure (of check, info, read) says, besides the image's name
  check-error: TEXT, info-error: TEXT, read-error: TEXT    the same for one of them
  untrusted: STATUS              of `qsnap --untrusted convert`
  qemu-check: WHY                qemu-img's check differs on purpose (else status, numbers and the findings must be the same)
  qemu-read: WHY                 the same for reading
  repair: STATUS C L             of `check -r all`: status, corruptions and leaks fixed; what `check` says without a fix, if not given
  repair-leaks: STATUS C L       the same for `check -r leaks`
  repair-changes: WHY            what the image reads as
  qemu-repair: WHY, qemu-repair-leaks: WHY   qemu-img's repair differs on purpose (else status, numbers, findings, second check and
                                 content are the same); WHY begins with `not run` where it would take too long. Not
                                 looked at where qemu-img's check differs already
  qemu: no                       do not run qemu-img (it would take too long, or crash)
  sparse: yes                    needs a file system with large sparse files

Whatever is in the file: no signal, at most 20 s of processor time and 300 MiB (400 with sanitizers), nothing written, no output after a failure.
After a repair a second check says the same with our program and qemu-img's, a second repair changes nothing, and what could be
read before reads as before. A repair that fixes nothing changes nothing but the marks in the header."""
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
QSNAP = os.path.abspath(os.environ.get("QSNAP", "build/qsnap"))
AGAIN = os.path.abspath(os.environ.get("QSNAP_AGAIN", QSNAP))
QEMU = shutil.which("qemu-img")
SECONDS = 20
MEMORY = (400 if os.environ.get("VARIANT") == "address" else 300) << 20
ONCE = ["check", "corruptions", "leaks", "errors", "info", "read", "snapshot", "error", "check-error", "info-error",
    "read-error", "untrusted", "repair", "repair-leaks", "repair-error", "repair-leaks-error", "repair-changes", "qemu-check", "qemu-read", "qemu-repair",
    "qemu-repair-leaks", "qemu", "sparse"]


class Wrong(Exception):
    pass


def expectations(path):
    found = {"finding": []}
    with open(path) as lines:
        for line in lines:
            if not line.strip() or line.startswith("#"):
                continue
            word, _, value = line.strip().partition(": ")
            if word == "finding":
                found["finding"].append(value)
            elif word in ONCE and word not in found:
                found[word] = value
            else:
                raise Wrong("expect: what is '%s'?" % line.strip())
    return found


def run(*argv, **env):
    """Status, standard output, standard error; limits are looked at."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=limit,
            env=dict(os.environ, **env))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        texts = out.read(1 << 20).decode(errors="replace"), err.read(16 << 20).decode(errors="replace")
    if process.returncode < 0 or process.returncode > 63:
        raise Wrong("%s: status %d\n%s" % (" ".join(argv), process.returncode, texts[1][-2000:]))
    if usage.ru_maxrss * 1024 > MEMORY:
        raise Wrong("%s: took %d MiB" % (" ".join(argv), usage.ru_maxrss >> 10))
    return (process.returncode,) + texts


def files():
    """Everything in the folder, so that a write anywhere is seen. Large sparse files by their start and length."""
    state = {}
    for name in sorted(n for n in os.listdir(".") if os.path.isfile(n)):
        with open(name, "rb") as f:
            state[name] = os.path.getsize(name), hashlib.sha256(f.read(8 << 20)).hexdigest()
    return state


def status(what, got, want, text):
    if got != int(want):
        raise Wrong("%s: status %d instead of %s\n%s" % (what, got, want, text[-1500:]))


def failure(want, what, got, err):
    """A failure names the file, and says what is wrong."""
    if got != 1:
        return
    texts = [want[w] for w in ("error", what + "-error") if w in want]
    if not texts:
        raise Wrong("expect does not say what the error of %s is:\n%s" % (what, err))
    for text in texts + ["image"] * (what != "check" or "errors" not in want):
        if text not in err:
            raise Wrong("%s: no '%s' in:\n%s" % (what, text, err[-1500:]))


NUMBERS = ["corruptions", "leaks", "check-errors", "total-clusters", "allocated-clusters", "fragmented-clusters",
    "compressed-clusters", "image-end-offset"]


def noise(line):
    return line.startswith(("Use qemu-img amend", "to create a clean", "qcow2: ", "qemu-img: ", "qsnap: "))


def check(want):
    got, out, err = run(QSNAP, "check", "-f", "qcow2", "--output=json", "image")
    status("check", got, want["check"], err)
    failure(want, "check", got, err)
    for text in want["finding"]:
        if text not in err:
            raise Wrong("check: no '%s' in:\n%s" % (text, err[-1500:]))
    numbers = json.loads(out) if out else {}
    for key, word in (("corruptions", "corruptions"), ("leaks", "leaks"), ("check-errors", "errors")):
        if out and numbers.get(key, 0) != int(want.get(word, 0)):
            raise Wrong("check: %d %s instead of %s\n%s" % (numbers.get(key, 0), word, want.get(word, 0), err[-1500:]))
    for threads in ("0", "4"):
        again = run(AGAIN, "check", "-f", "qcow2", "--output=json", "--threads", threads, "image")
        if again != (got, out, err):
            raise Wrong("check: not the same with %s threads" % threads)
    if QEMU and "qemu" not in want:
        theirs, their_out, their_err = run(QEMU, "check", "-f", "qcow2", "--output=json", "image")
        their_numbers = json.loads(their_out) if their_out else {}
        their_err = their_err.replace("Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.", "")
        same = theirs == got
        if theirs != 1 or their_out:
            same = same and [numbers.get(n) for n in NUMBERS] == [their_numbers.get(n) for n in NUMBERS]
        lines = [[x for x in text.splitlines() if not noise(x)] for text in (err, their_err)]
        same = same and (got == 1 or lines[0] == lines[1])
        compare("check", want, same, "%d\n%s\n%s" % (theirs, their_out, their_err[-1500:]))


def compare(what, want, same, text):
    if same and "qemu-" + what in want:
        raise Wrong("qemu-img's %s does not differ, although expect says so" % what)
    if not same and "qemu-" + what not in want:
        raise Wrong("qemu-img's %s differs: %s" % (what, text))


def content(path):
    if not os.path.exists(path):
        return None
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def read(want):
    source = ["-l", want["snapshot"]] if "snapshot" in want else []
    convert = ["convert", "-f", "qcow2", "-O", "raw"] + source + ["image"]
    got, _, err = run(QSNAP, *convert, "out")
    status("read", got, want["read"], err)
    failure(want, "read", got, err)
    if got and os.path.exists("out"):
        raise Wrong("read: an output is left")
    if not got and os.path.exists("expected") and content("out") != content("expected"):
        raise Wrong("read: wrong content")
    if QEMU and "qemu" not in want:
        theirs, _, their_err = run(QEMU, *convert, "out.qemu")
        same = (got == 0) == (theirs == 0) and (got or content("out") == content("out.qemu"))
        compare("read", want, same, "status %d\n%s" % (theirs, their_err[-1500:]))
    for name in ("out", "out.qemu"):
        if os.path.exists(name):
            os.unlink(name)


def without_marks(path):
    """Length and content, the incompatible features left out."""
    with open(path, "rb") as f:
        start = bytearray(f.read(8 << 20))
    start[72:80] = bytes(8)
    return os.path.getsize(path), bytes(start)


def texts(*streams):
    return [[x for x in text.replace("Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.", "").splitlines()
        if not noise(x)] for text in streams]


def fixed(out):
    numbers = json.loads(out) if out else {}
    return numbers.get("corruptions-fixed", 0), numbers.get("leaks-fixed", 0)


def readable():
    """What the image and its snapshot show, None where that cannot be read."""
    shown = []
    info = run(AGAIN, "info", "-f", "qcow2", "--output=json", "image")[1]
    if len(info) == 1 << 20:  # more than was kept
        info = ""
    names = [x["name"] for x in json.loads(info or "{}").get("snapshots", [])]
    for source in [[]] + [["-l", "snapshot.name=" + n] for n in names[:3]]:
        run(AGAIN, "convert", "-f", "qcow2", "-O", "raw", *source, "image", "out")
        shown.append(content("out"))
        if shown[-1]:
            os.unlink("out")
    return shown


def repair_by(program, mode, judges):
    """Status and numbers fixed, findings, status of second checks. The image before is `kept`."""
    subprocess.run(["cp", "--sparse=always", "image", "kept"], check=True)
    got, out, err = run(program, "check", "-f", "qcow2", "-r", mode, "--output=json", "image")
    second = [run(p, "check", "-f", "qcow2", "image")[0] for p in judges]
    return got, fixed(out), err, second


def give_back():
    os.replace("kept", "image")


def repair(want, mode, before):
    word = "repair" if mode == "all" else "repair-leaks"
    check_status = int(want["check"])
    expected = tuple(int(x) for x in want.get(word, "%d 0 0" % check_status).split())
    judges = [AGAIN, QEMU] if QEMU and "qemu" not in want and "qemu-check" not in want else [AGAIN]
    got, numbers, err, second = repair_by(QSNAP, mode, judges)
    if (got,) + numbers != expected:
        raise Wrong("check -r %s: %d, fixed %d %d instead of %s\n%s" % ((mode, got) + numbers + (expected, err[-1500:])))
    if got == 1 and not [w for w in ("error", "check-error", "repair-error", word + "-error") if w in want and want[w] in err]:
        raise Wrong("check -r %s: expect does not say what the error is:\n%s" % (mode, err))
    if got != 1 and second != [got] * len(second):
        raise Wrong("check -r %s: status %d, second checks %s" % (mode, got, second))
    if numbers == (0, 0) and without_marks("image") != without_marks("kept"):
        raise Wrong("check -r %s: nothing repaired, and yet something changed" % mode)
    after = readable() if before else []
    for old, new in zip(before, after):
        if old and old != new and "repair-changes" not in want:
            raise Wrong("check -r %s: what was readable reads otherwise" % mode)
    state = files()["image"]
    again = run(AGAIN, "check", "-f", "qcow2", "-r", mode, "--output=json", "--threads", "0", "image")
    if again[0] != got or fixed(again[1]) != (0, 0) or files()["image"] != state:
        raise Wrong("check -r %s: a second repair finds something to do" % mode)
    give_back()
    if not QEMU or "qemu" in want or "qemu-check" in want or want.get("qemu-" + word, "").startswith("not run"):
        return
    theirs, their_numbers, their_err, _ = repair_by(QEMU, mode, [])
    same = theirs == got and (got == 1 or their_numbers == numbers and texts(err)[0] == texts(their_err)[0] and (not before or readable() == after))
    compare(word, want, same, "%d, fixed %d %d\n%s" % ((theirs,) + their_numbers + (their_err[-1500:],)))
    give_back()


def case(name):
    folder = os.path.join(HERE, name)
    want = expectations(os.path.join(folder, "expect"))
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMP")) as place:
        os.chdir(place)
        env = dict(os.environ, PYTHONPATH=HERE, PYTHONDONTWRITEBYTECODE="1")
        made = subprocess.run([sys.executable, os.path.join(folder, "make.py")], env=env, stderr=subprocess.PIPE)
        if made.returncode:
            if "sparse" in want:
                return "skip %s: no large sparse files here" % name
            raise Wrong("make.py: " + made.stderr.decode())
        before = files()
        check(want)
        got, _, err = run(QSNAP, "info", "-f", "qcow2", "image")
        status("info", got, want.get("info", 0), err)
        failure(want, "info", got, err)
        if "read" in want:
            read(want)
        if "untrusted" in want:
            # The leak detector cannot work inside the sandbox.
            got, _, err = run(QSNAP, "--untrusted", "convert", "-f", "qcow2", "-O", "raw", "image", "out",
                ASAN_OPTIONS="detect_leaks=0")
            status("untrusted", got, want["untrusted"], err)
            if os.path.exists("out"):
                os.unlink("out")
        if files() != before:
            raise Wrong("a file was written to")
        shown = [] if "bomb" in name else readable()
        for mode in ("all",) if "bomb" in name else ("all", "leaks"):
            repair(want, mode, shown)
        os.chdir(HERE)
    return "ok " + name


def main():
    names = sys.argv[1:] or sorted(d for d in os.listdir(HERE) if os.path.exists(os.path.join(HERE, d, "expect")))
    failed = 0
    for name in names:
        try:
            print(case(name), flush=True)
        except Wrong as e:
            failed += 1
            print("not ok %s\n  %s" % (name, str(e).replace("\n", "\n  ")), flush=True)
        os.chdir(HERE)
    sys.exit(failed > 0)


main()
