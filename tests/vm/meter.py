# SPDX-License-Identifier: Apache-2.0
"""How long a guest was away, by the beats that it sends to a file on the host: each is noted with the host's clock as it comes,
by a process of its own (a guest's clock does not see a pause when the processor is emulated).

By hand: python3 meter.py BEATS prints every gap that is longer than all before it. In a test:
    meter = Meter(guest)
    begin = meter.now()
    ...
    meter.stop()
    seconds = meter.longest(begin)
"""
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

IN_MODIFY = 2


def follow(path, seen):
    """Calls seen(nanoseconds, number) for each new beat, until the process is told to end."""
    libc = ctypes.CDLL(None, use_errno=True)
    notify = libc.inotify_init1(os.O_NONBLOCK)
    if notify < 0 or libc.inotify_add_watch(notify, os.fsencode(path), IN_MODIFY) < 0:
        raise OSError(ctypes.get_errno(), "inotify", path)
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 0, os.SEEK_END)
    rest = b""
    while True:
        select.select([notify], [], [], 1)
        now = time.monotonic_ns()
        try:
            os.read(notify, 65536)
        except BlockingIOError:
            pass
        *lines, rest = (rest + os.read(fd, 65536)).split(b"\n")
        for line in lines:
            if line.isdigit():
                seen(now, int(line))


class Meter:
    """Watches from the first beat after its making until stop()."""

    def __init__(self, guest):
        from rig import read, wait_until
        self.path = os.path.join(guest.folder, "meter")
        with open(self.path, "w", encoding="ascii") as out:
            self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), guest.beats, "--note"], stdout=out)
        wait_until("the meter sees beats", lambda: read(self.path).count("\n") > 1)

    @staticmethod
    def now():
        return time.monotonic()

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def beats(self):
        """(seconds of time.monotonic(), number) of each."""
        with open(self.path, encoding="ascii") as file:
            pairs = [line.split() for line in file.read().split("\n")[:-1]]
        return [(int(when) / 1e9, int(number)) for when, number in pairs]

    def longest(self, begin=0.0, end=float("inf")):
        """The longest time, in seconds, between two beats around any moment from begin to end."""
        times = [when for when, _ in self.beats()]
        return max((b - a for a, b in zip(times, times[1:]) if b >= begin and a <= end), default=0.0)


def main(words):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    longest, before = 0.0, None

    def note(now, number):
        print(now, number, flush=True)

    def show(now, number):
        nonlocal longest, before
        if before is not None and (now - before) / 1e9 > longest:
            longest = (now - before) / 1e9
            print(f"record {number}: {longest * 1000:.0f} ms after the one before", flush=True)
        before = now

    follow(words[0], note if words[1:] == ["--note"] else show)


if __name__ == "__main__":
    main(sys.argv[1:])
