# SPDX-License-Identifier: Apache-2.0
"""The program under test, run against a cloud; and images to run it with."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../vm"))
from rig import run  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QSNAP = os.environ.get("QSNAP", os.path.join(TOP, "build/qsnap"))


class Done:
    """How a command ended: status, out, err, and 512-byte blocks that it wrote to file systems."""

    def __init__(self, process, out, err, blocks):
        self.status, self.out, self.err, self.blocks = process, out, err, blocks

    def json(self):
        return json.loads(self.out)


def start(cloud, *words, environment=None, stdin=subprocess.DEVNULL, **more):
    return subprocess.Popen([QSNAP, *map(str, words)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**cloud.environment(), **(environment or {})}, **more)


def qsnap(cloud, *words, want=0, environment=None, data=None, **more):
    """Runs it; it must end with status `want` (None: any). `environment`: more variables, None takes one away."""
    variables = {**cloud.environment(), **(environment or {})}
    process = subprocess.Popen([QSNAP, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={key: value for key, value in variables.items() if value is not None}, **more)
    out, err = process.communicate(data or b"", timeout=300)
    err = err.decode(errors="replace")
    assert want is None or process.returncode == want, f"qsnap {' '.join(map(str, words))}: {process.returncode}, wanted {want}: {err} {out[:500]}"
    return Done(process.returncode, out, err, 0)


def blocks_written(cloud, *words):
    """512-byte blocks that a command wrote to file systems."""
    process = start(cloud, *words)
    process.stdout.read()
    err = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, err
    return usage.ru_oublock


def make_chain(folder):
    """An overlay with an internal snapshot over a base, 64 MiB: data, compressible and not, zeros over data, holes."""
    base, top = os.path.join(folder, "base.qcow2"), os.path.join(folder, "web.qcow2")
    noise = os.path.join(folder, "noise")
    with open(noise, "wb") as file:
        file.write(os.urandom(5 << 20))
        file.write(b"all work and no play makes jack a dull boy\n" * 100000)
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "64M")
    run("qemu-img", "convert", "-n", "-O", "qcow2", noise, base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", "-c", "write -z 5M 1M", "-c", "write -P 9 63M 1M", top)
    run("qemu-img", "snapshot", "-c", "monday", top)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 8 2M 100k", top)
    return top
