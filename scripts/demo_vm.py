# SPDX-License-Identifier: Apache-2.0
"""What `make demo-vm` shows: a guest that writes numbered records to two disks all the time, an instant snapshot of it taken
meanwhile, how long it was away for that, and a second guest that boots from the images and goes on from the record they end with.
"""
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests/vm"))
import records  # noqa: E402
from guest import Guest  # noqa: E402
from meter import Meter  # noqa: E402
from rig import Rig, why_not  # noqa: E402

QSNAP = os.path.join(TOP, "build/qsnap")


def step(text):
    print(f"\n{text}", flush=True)


def qsnap(folder, *words):
    print("  $ qsnap " + " ".join(words), flush=True)
    env = {**os.environ, "QSNAP_STATE_DIR": os.path.join(folder, "state")}
    done = subprocess.run([QSNAP, *words], env=env, check=True, capture_output=True, text=True)
    print("  " + (done.stderr + done.stdout).rstrip().replace("\n", "\n  "), flush=True)


def show(folder):
    with Rig(os.path.join(folder, "rig")) as rig:
        step("A guest with two disks boots (emulated processor, a libvirtd of our own) and writes about 60 records a second to both.")
        first = Guest(rig, "first").boot()
        meter = Meter(first)
        print(f"  record {first.wait_records(60)} is written.")
        qsnap(folder, "vm", "disks", "-c", rig.uri, "first")

        step("An instant snapshot of both disks, while it writes.")
        images, began, before = os.path.join(folder, "images"), meter.now(), first.last()
        qsnap(folder, "vm", "snapshot", "-c", rig.uri, "first", "demo", "--mode", "instant", "--to", images)
        ended = meter.now()
        after = first.wait_records(10)
        meter.stop()
        print(f"  The guest wrote records {before} to {after} meanwhile; its longest silence was {meter.longest(began, ended) * 1000:.0f} ms "
              f"(before that {meter.longest(0, began) * 1000:.0f} ms).")

        step("Each image stands alone, and both are of one instant.")
        pair = [os.path.join(images, f"{target}.qcow2") for target in ("vda", "vdb")]
        qsnap(folder, "check", pair[0])
        print("  Newest records: " + records.tell(records.check_disks(pair, least=before)))

        step("A second guest boots from copies of them and goes on.")
        copies = [shutil.copy(path, path + ".boot") for path in pair]
        second = Guest(rig, "second", images=",".join(copies)).boot()
        print(f"  The copy has written record {second.wait_records(20)}; the first guest is at {first.wait_records(1)}.")
    print("\nAll ended; nothing is left running.")


def main():
    why = why_not()
    if why:
        sys.exit(f"demo-vm: {why}")
    with tempfile.TemporaryDirectory(prefix="qsnap-demo-vm.", dir=os.environ.get("DEMO_DIR", "/var/tmp")) as folder:
        show(folder)


if __name__ == "__main__":
    main()
