#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# time limit: 600
"""A running guest, snapshotted straight into Glance in each mode: the records, the images' bytes as the judge of the guest's disks sees
them, a copy that boots; and that all disks are there or none."""
import json
import os
import subprocess
import sys
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cloud import cloud_for_test  # noqa: E402
from program import QSNAP, qsnap  # noqa: E402
from proxy import Proxy  # noqa: E402
from guest import Guest  # noqa: E402
import records  # noqa: E402
from report import Report, rig_for_test  # noqa: E402

report = Report()
MODES = {
    "internal": ("instant", "--via", "internal", "--compress", "zstd"),
    "overlay": ("instant", "--via", "overlay", "--format", "raw"),
    "live": ("live",),
    "cold": ("cold", "--compress", "zlib:fastest"),
}


class World:
    def __init__(self, rig, cloud, guest):
        self.rig, self.cloud, self.guest = rig, cloud, guest
        self.environment = {**cloud.environment(), "QSNAP_STATE_DIR": rig.path("state")}

    def snapshot(self, *words, want=0, **variables):
        done = subprocess.run([QSNAP, "vm", "snapshot", self.guest.name, *words, "-c", self.rig.uri, "--json"],
                              env={**self.environment, **variables}, capture_output=True, text=True, check=False)
        assert done.returncode == want, f"status {done.returncode}: {done.stderr}{done.stdout}"
        return done

    def download(self, told):
        paths = []
        for disk in told["disks"]:
            paths.append(os.path.abspath(f"{disk['target']}.{disk['format']}"))
            qsnap(self.cloud, "download", disk["image"]["id"], paths[-1], "-q")
        return paths


def each_mode(world):
    for name, words in MODES.items():
        with report.test(f"{name}: both disks arrive, of one instant"):
            least = world.guest.last()
            told = json.loads(world.snapshot(f"snap-{name}", "--mode", *words, "--to", "glance:").stdout)
            assert len(told["disks"]) == 2
            for disk in told["disks"]:
                record = world.cloud.image(disk["image"]["id"])
                assert disk["path"] == "glance:" + record["id"] and record["status"] == "active"
                assert record["name"] == f"{world.guest.name}-snap-{name}-{disk['target']}"
                assert record["image_type"] == "snapshot" and record["instance_uuid"] == told["uuid"] and record["min_disk"] == 1
                assert record["qsnap_disk"] == disk["target"] and record["qsnap_mode"] == told["mode"] and record["qsnap_disks"] == "2"
                assert record["qsnap_snapshot"] == f"snap-{name}" and record["qsnap_domain"] == world.guest.name
                assert record["virtual_size"] == disk["virtual-size"] and record["size"] == disk["bytes"]
            assert len({world.cloud.image(disk["image"]["id"])["qsnap_set"] for disk in told["disks"]}) == 1
            records.check_disks(world.download(told), False, least)
            world.guest.wait_records(2)
    with report.test("one disk has the name that was asked for"):
        told = json.loads(world.snapshot("--disks", "vda", "--to", "glance:just this").stdout)
        assert world.cloud.image(told["disks"][0]["image"]["id"])["name"] == "just this"


def made_by_a_cloud(world):
    """What OpenStack's compute service writes into a domain, and what its own snapshots' records have from there."""
    with report.test("the record of a cloud's machine is as the cloud's own"):
        base = world.cloud.client().images.create(name="base", min_ram=64)["id"]
        ids = {"owner_id": uuid.uuid4().hex, "user_id": uuid.uuid4().hex}
        metadata = {"http://openstack.org/xmlns/libvirt/nova/1.1": (
            f"<instance><owner><user uuid='{ids['user_id']}'>u</user><project uuid='{ids['owner_id']}'>p</project></owner>"
            f"<root type='image' uuid='{base}'/></instance>"),
            "http://libosinfo.org/xmlns/libvirt/domain/1.0": "<libosinfo><os id='http://debian.org/debian/12'/></libosinfo>"}
        for uri, text in metadata.items():
            world.guest.virsh("metadata", world.guest.name, uri, "--key", "k" + str(len(text)), "--set", text, "--live", "--config")
        told = json.loads(world.snapshot("--disks", "vda", "--to", "glance:").stdout)
        record = world.cloud.image(told["disks"][0]["image"]["id"])
        assert record["base_image_ref"] == base and record["min_ram"] == 64 and record["os_type"] == "linux", record
        assert {key: record[key] for key in ids} == ids and record["image_location"] == "snapshot" and record["image_state"] == "available"
        world.cloud.client().images.delete(base)
        told = json.loads(world.snapshot("--disks", "vda", "--to", "glance:").stdout)
        record = world.cloud.image(told["disks"][0]["image"]["id"])
        assert record["base_image_ref"] == base and record["min_ram"] == 0, record


def boots(world):
    with report.test("what comes back boots and goes on writing"):
        told = json.loads(world.snapshot("--to", "glance:boot", "--compress", "zstd").stdout)
        images = world.download(told)
        newest = min(max(found) for found in records.check_disks(images))
        copy = Guest(world.rig, "copy", images=",".join(images)).boot()
        assert copy.wait_records(5) > newest
        copy.stop()


def failures(world, proxy):
    world.cloud.region("Cut", proxy.url)
    with report.test("what may pass is tried again, with the same snapshot"), proxy.rule("PUT", "/file", cut=1 << 20) as rule:
        done = world.snapshot("--to", "glance:twice", OS_REGION_NAME="Cut")
        assert rule.hits == 1 and "trying again" in done.stderr
        records.check_disks(world.download(json.loads(done.stdout)))
    with report.test("the second disk is refused: neither is there, and the guest is as before"):
        before = set(world.cloud.images())
        with proxy.rule("PUT", "/file"), proxy.rule("PUT", "/file", count=1000, after=1 << 20, answer=(413, b"")) as rule:
            done = world.snapshot("--to", "glance:none", want=1, OS_REGION_NAME="Cut")
            assert rule.hits == 1 and "HTTP 413" in done.stderr, done.stderr
        assert set(world.cloud.images()) == before
        world.guest.wait_records(2)
        assert world.guest.state() == "running" and not [f for f in os.listdir(world.rig.path("state")) if f.endswith(".journal")]
    with report.test("who asks is not known: nothing is done to the guest"):
        done = world.snapshot("--to", "glance:", want=1, OS_PASSWORD="wr0ng")
        assert "HTTP 401" in done.stderr and '"instant"' not in done.stderr, done.stderr


def main():
    with rig_for_test() as rig, cloud_for_test() as cloud, Proxy(cloud.glance_port) as proxy:
        os.chdir(os.path.dirname(cloud.folder))
        guest = Guest(rig, "web").boot()
        world = World(rig, cloud, guest)
        each_mode(world)
        made_by_a_cloud(world)
        boots(world)
        failures(world, proxy)
        guest.stop()
    report.finish()


if __name__ == "__main__":
    main()
