#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# time limit: 600
"""A busy guest's increments into Glance: hidden records that tell what lies below, images without a name inside; rebuilt by
`download --chain` with nothing but the service, each byte for byte what qemu-img found in the disks' snapshots. Records that lie, images
that name other files, an end in the middle: refused, and nothing is left."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cloud import cloud_for_test  # noqa: E402
from program import QSNAP, qsnap, start  # noqa: E402
from guest import Guest  # noqa: E402
from report import Report, rig_for_test  # noqa: E402
from rig import run  # noqa: E402

report = Report()
# name: how it is taken, and what happens before
STEPS = {
    "s1": (("--mode", "instant"), lambda guest: guest.wait_records(10)),
    "s2": (("--mode", "cold", "--compress", "zstd"), lambda guest: guest.wait_records(10)),
    "s3": (("--mode", "instant"), lambda guest: crash(guest)),  # pylint: disable=unnecessary-lambda
    "s4": (("--mode", "instant", "--compress", "zlib:1"), lambda guest: grow(guest)),  # pylint: disable=unnecessary-lambda
    "s5": (("--mode", "cold"), lambda guest: guest.stop()),
}


def crash(guest):
    guest.kill()
    guest.wait_state("shut off")
    guest.start()
    guest.wait_records(5)


def grow(guest):
    guest.virsh("blockresize", guest.name, "vda", str((256 << 20) + (40 << 20)) + "B")
    guest.wait_records(5)


class World:
    def __init__(self, rig, cloud, guest):
        self.rig, self.cloud, self.guest = rig, cloud, guest
        self.ids = {}  # (snapshot, target): image id

    def snapshot(self, name, *words, want=0):
        done = subprocess.run([QSNAP, "vm", "snapshot", self.guest.name, name, "--keep", "--to", "glance:", *words, "-c", self.rig.uri, "--json"],
                              env={**self.cloud.environment(), "QSNAP_STATE_DIR": self.rig.path("state")}, capture_output=True, text=True, check=False)
        assert done.returncode == want, f"status {done.returncode}: {done.stderr}{done.stdout}"
        return done

    def take(self, name, *words):
        """Into the service, and what each disk shows, into a file."""
        told = json.loads(self.snapshot(name, *words).stdout)
        for disk in self.guest.disks:
            run("qemu-img", "convert", "-U", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "raw", disk.path, f"{name}-{disk.target}.raw")
        self.ids.update({(name, disk["target"]): disk["image"]["id"] for disk in told["disks"]})
        return told

    def chain(self, *words, want=0):
        return qsnap(self.cloud, "download", "--chain", *words, want=want)

    def update(self, image, **properties):
        self.cloud.client().images.update(image, **properties)


def same(image, fmt, name, target):
    truth = f"{name}-{target}.raw"
    info = json.loads(run("qemu-img", "info", "--output=json", "-f", fmt, image))
    assert info["virtual-size"] == os.path.getsize(truth), (info, os.path.getsize(truth))
    run("qemu-img", "compare", "-q", "-f", fmt, "-F", "raw", image, truth)


def upload(world):
    with report.test("the first one is of all, and is no increment"):
        told = world.take("s0", "--mode", "instant", "--compress", "zstd")
        record = world.cloud.image(told["disks"][0]["image"]["id"])
        assert "since" not in told and "qsnap_delta" not in record and not record["os_hidden"], record
    before = "s0"
    for name, (words, happens) in STEPS.items():
        with report.test(f"{name} has what changed since {before}; its record tells, and is hidden"):
            happens(world.guest)
            told = world.take(name, "--since", before, *words)
            for disk in told["disks"]:
                record, target = world.cloud.image(disk["image"]["id"]), disk["target"]
                base = world.cloud.image(world.ids[before, target])
                assert (record["qsnap_delta"], record["qsnap_since"], record["qsnap_base_image"]) == ("yes", before, base["id"]), record
                assert record["qsnap_base_size"] == str(base["virtual_size"]) and disk["base"] == "glance:" + base["id"], (record, base)
                assert record["os_hidden"] and record["visibility"] == "private" and record["virtual_size"] == disk["virtual-size"], record
                full = world.cloud.image(world.ids["s0", target])["size"]
                assert record["size"] < full / 2, (record["size"], full)
                assert record["id"] not in world.cloud.images()
        before = name


def listed(world):
    with report.test("images leaves them out, and --all marks them"):
        hidden = {image for (name, _), image in world.ids.items() if name != "s0"}
        usual = qsnap(world.cloud, "images", "--json").json()
        told = qsnap(world.cloud, "images", "--all", "--json").json()
        assert told[:len(usual)] == usual and not any(image["os_hidden"] for image in usual), (usual, told)
        assert {image["id"] for image in told if image["os_hidden"]} == hidden == {image["id"] for image in told[len(usual):]}, told
        lines = qsnap(world.cloud, "images", "--all").out.decode().splitlines()[1:]
        assert [(line.split()[0], line.endswith(" (hidden)")) for line in lines] == [(image["id"], image["os_hidden"]) for image in told], lines


def rebuilt(world):
    os.rename(world.rig.path("state"), world.rig.path("away"))  # the service alone
    for (name, target), image in world.ids.items():
        if target == "vdb" and name != "s4":
            continue
        with report.test(f"{name} of {target} is rebuilt"):
            world.chain(image, "out.qcow2", "-q")
            same("out.qcow2", "qcow2", name, target)
            assert "backing-filename" not in run("qemu-img", "info", "--output=json", "out.qcow2")
    with report.test("by its name, in another format, and into a pipe"):
        told = world.chain(f"{world.guest.name}-s5-vdb", "out.raw", "--format", "raw", "--json").json()
        assert [image["id"] for image in told["images"]] == [world.ids[f"s{i}", "vdb"] for i in range(6)], told
        same("out.raw", "raw", "s5", "vdb")
        with open("piped.qcow2", "wb") as file:
            file.write(world.chain(world.ids["s3", "vda"], "-").out)
        same("piped.qcow2", "qcow2", "s3", "vda")
    with report.test("as a chain of files, which can be moved"):
        world.chain(world.ids["s5", "vda"], "files/", "-q")
        os.rename("files", "moved")
        for i in range(6):
            run("qemu-img", "check", "-q", "-f", "qcow2", f"moved/{i}.qcow2")
            same(f"moved/{i}.qcow2", "qcow2", f"s{i}", "vda")
        assert sorted(os.listdir("moved")) == [f"{i}.qcow2" for i in range(6)]
    with report.test("... where nothing is replaced, and nothing added when one is there"):
        os.mkdir("some")
        os.rename("moved/2.qcow2", "some/2.qcow2")
        assert "exists already" in world.chain(world.ids["s3", "vda"], "some", want=1).err and os.listdir("some") == ["2.qcow2"]
    with report.test("a full image is a chain of one"):
        world.chain(world.ids["s0", "vda"], "one/", "-q")
        same("one/0.qcow2", "qcow2", "s0", "vda")
    with report.test("without --chain an increment comes as it is, which is said; and in no other format"):
        assert "only what changed since snapshot s2" in qsnap(world.cloud, "download", world.ids["s3", "vda"], "delta.qcow2").err
        assert "--chain" in qsnap(world.cloud, "download", world.ids["s3", "vda"], "delta.raw", "--format", "raw", want=1).err
        assert not os.path.exists("delta.raw")


@contextlib.contextmanager
def changed(world, image, **properties):
    record = world.cloud.image(image)
    was = {key: record.get(key) for key in properties}
    world.update(image, **properties)
    try:
        yield
    finally:
        world.update(image, **{key: value for key, value in was.items() if value is not None})
        gone = [key for key, value in was.items() if value is None]
        if gone:
            world.cloud.client().images.update(image, remove_props=gone)


def lies(world):
    top, middle, base = world.ids["s2", "vda"], world.ids["s1", "vda"], world.ids["s0", "vda"]
    cases = {
        "a base that is no id": (top, {"qsnap_base_image": "../../v2/images/x"}, "no id of an image"),
        "a base that is the image itself": (top, {"qsnap_base_image": top}, "below itself"),
        "a base that leads back": (base, {"qsnap_delta": "yes", "qsnap_base_image": middle, "qsnap_since": "s1", "qsnap_base_size": "268435456"}, "below itself"),
        "a base of another disk": (middle, {"qsnap_base_image": world.ids["s0", "vdb"]}, "qsnap_disk"),
        "a base of another snapshot": (top, {"qsnap_since": "s0"}, "qsnap_since"),
        "a base of another domain": (base, {"instance_uuid": "7d8a6a0e-8a52-4f0b-9b39-0f0d6f7e8d11"}, "instance_uuid"),
        "a base of another size": (top, {"qsnap_base_size": "268435968"}, "268435968"),
        "a size that is none": (top, {"qsnap_base_size": "256M"}, "no number"),
        "a base that is not there": (top, {"qsnap_base_image": "7d8a6a0e-8a52-4f0b-9b39-0f0d6f7e8d11"}, "what it was made over"),
    }
    for i, (name, (image, properties, text)) in enumerate(cases.items()):
        with report.test(f"refused: {name}"), changed(world, image, **properties):
            target = ("lie.qcow2", "lie/")[i % 2]
            done = world.chain(top, target, want=1)
            assert text in done.err and not os.path.exists(target), done.err
    with report.test("refused: an image that names another file"):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/hostname", "-F", "raw", "names.qcow2", "256M")
        record = world.cloud.image(base)
        keep = {key: record[key] for key in ("instance_uuid", "qsnap_disk", "qsnap_snapshot")}
        made = world.cloud.client().images.create(name="names", disk_format="qcow2", container_format="bare", **keep)
        with open("names.qcow2", "rb") as file:
            world.cloud.client().images.upload(made["id"], file)
        with changed(world, middle, qsnap_base_image=made["id"]):
            for target in "lie.qcow2", "lie/":
                done = world.chain(top, target, want=1)
                assert "backing" in done.err and not os.path.exists(target), done.err


def ended(world):
    with report.test("ended by a signal: no file, no folder"):
        process = start(world.cloud, "download", "--chain", world.ids["s2", "vda"], "ended/", "--rate", "1M", "--progress=json")
        while '"download"' not in process.stderr.readline().decode():
            pass
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 128 + signal.SIGINT, process.returncode
        assert not os.path.exists("ended"), os.listdir("ended")


def refused(world):
    with report.test("no increment over an image that the service has not any more; the guest is not touched"):
        os.rename(world.rig.path("away"), world.rig.path("state"))
        world.cloud.client().images.delete(world.ids["s5", "vdb"])
        done = world.snapshot("s6", "--since", "s5", want=1)
        assert "snapshot 's5', disk vdb" in done.stderr and world.guest.state() == "shut off", done.stderr


def main():
    with rig_for_test() as rig, cloud_for_test() as cloud:
        os.chdir(os.path.dirname(cloud.folder))
        guest = Guest(rig, "web", noise=24).boot()
        world = World(rig, cloud, guest)
        upload(world)
        listed(world)
        rebuilt(world)
        lies(world)
        ended(world)
        refused(world)
    report.finish()


if __name__ == "__main__":
    main()
