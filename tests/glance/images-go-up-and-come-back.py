#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# time limit: 300
"""Uploads and downloads of each format and compression, judged by Glance's own client, its own inspector, and qemu-img."""
import hashlib
import json
import os
import sys
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cloud import cloud_for_test  # noqa: E402
from program import blocks_written, make_chain, qsnap  # noqa: E402
from report import Report  # noqa: E402
from rig import run  # noqa: E402

report = Report()
WAYS = {
    "raw": ["--format", "raw"],
    "qcow2": [],
    "zlib": ["--compress", "zlib"],
    "zlib-1": ["--compress", "zlib:1"],
    "zstd": ["--compress", "zstd"],
    "zstd-two-pass": ["--compress", "zstd:3", "--two-pass"],
    "raw-import": ["--format", "raw", "--via", "import"],
    "zlib-import": ["--compress", "zlib", "--via", "import"],
    "serial": ["--threads", "0"],
    "rate": ["--rate", "40M"],
}


def stands_alone(path):
    """Glance's own inspector, and what a newer Glance looks at."""
    from glance.common import format_inspector  # pylint: disable=import-outside-toplevel
    inspector = format_inspector.QcowInspector.from_file(path)
    assert inspector.format_match and inspector.safety_check(), "Glance's inspector does not accept it"
    info = json.loads(run("qemu-img", "info", "--output=json", path))
    data = info["format-specific"]["data"]
    assert "backing-filename" not in info and "snapshots" not in info and not data.get("extended-l2"), info
    assert data["compat"] == "1.1" and "data-file" not in data and not data["corrupt"], info


def judge(cloud, told, source, fmt):
    """What was told of an upload, what Glance says, and the bytes that it has."""
    record, data = cloud.image(told["id"]), cloud.data(told["id"])
    assert record["status"] == "active" and record["disk_format"] == fmt and record["container_format"] == "bare", record
    assert told["size"] == len(data) == record["size"], (told, len(data))
    assert told["checksum"] == hashlib.md5(data).hexdigest() == record["checksum"]
    assert told["os_hash_algo"] == "sha512" and told["os_hash_value"] == hashlib.sha512(data).hexdigest() == record["os_hash_value"]
    assert told["virtual_size"] == record["virtual_size"] == 64 << 20, record
    with open("judged", "wb") as file:
        file.write(data)
    run("qemu-img", "compare", "-f", fmt, "-F", "qcow2", "judged", source)
    if fmt == "qcow2":
        run("qemu-img", "check", "-f", "qcow2", "judged")
        stands_alone("judged")
    return record, data


def each_way(cloud, source):
    for name, words in WAYS.items():
        fmt = "raw" if "raw" in name else "qcow2"
        with report.test(f"{name} arrives whole"):
            told = qsnap(cloud, "upload", source, "--name", name, "--json", *words).json()
            _, data = judge(cloud, told, source, fmt)
        with report.test(f"{name} comes back as it is there"):
            qsnap(cloud, "download", told["id"], "back")
            with open("back", "rb") as file:
                assert file.read() == data
            assert qsnap(cloud, "download", name, "-").out == data
    for name, fmt in (("zlib", "raw"), ("raw", "qcow2"), ("zstd", "raw")):
        with report.test(f"{name} comes back as {fmt}"):
            qsnap(cloud, "download", name, "other", "--format", fmt)
            run("qemu-img", "compare", "-f", fmt, "-F", "qcow2", "other", source)
            os.unlink("other")


def no_room_is_taken(cloud, source):
    with report.test("raw and uncompressed qcow2 take no room here, compressed takes what it is long"):
        assert blocks_written(cloud, "upload", source, "--format", "raw", "-q") == 0
        assert blocks_written(cloud, "upload", source, "-q") == 0
        assert blocks_written(cloud, "upload", source, "--compress", "zlib", "--two-pass", "-q") == 0
        spooled = 512 * blocks_written(cloud, "upload", source, "--compress", "zlib", "--name", "spooled", "-q", "--spool-dir", ".")
        size = qsnap(cloud, "download", "spooled", "spooled", "--json").json()["size"]
        assert 0.9 * size <= spooled <= 1.1 * size + 65536, (spooled, size)
    with report.test("... which is said before"):
        assert "--two-pass" in qsnap(cloud, "upload", source, "--compress", "zlib", "--name", "x").err


def records(cloud, source):
    with report.test("a record has what was asked for"):
        told = qsnap(cloud, "upload", source, "--json", "--visibility", "shared", "--min-disk", "2", "--min-ram", "512", "--property",
                     "os_type=linux", "--property", "hw_disk_bus=virtio", "--property", "odd~key=a=b/~ ünd").json()
        record = cloud.image(told["id"])
        assert record["name"] == "web" and record["visibility"] == "shared" and record["min_disk"] == 2 and record["min_ram"] == 512
        assert record["os_type"] == "linux" and record["hw_disk_bus"] == "virtio" and record["odd~key"] == "a=b/~ ünd", record
    with report.test("... private and named after the file when nothing was"):
        record = cloud.image(qsnap(cloud, "upload", source, "--json").json()["id"])
        assert record["visibility"] == "private" and record["name"] == "web"
    with report.test("a record that exists is filled, and has the properties, too"):
        made = cloud.client().images.create(name="nova's", instance_uuid=str(uuid.uuid4()), image_type="snapshot")
        told = qsnap(cloud, "upload", source, "--image-id", made["id"], "--property", "image_state=available", "--min-disk", "1", "--json").json()
        record, _ = judge(cloud, told, source, "qcow2")
        assert told["id"] == made["id"] and record["name"] == "nova's" and record["image_type"] == "snapshot"
        assert record["image_state"] == "available" and record["min_disk"] == 1 and record["instance_uuid"] == made["instance_uuid"]
    with report.test("... and one with data is left as it is"):
        data = cloud.data(made["id"])
        assert "active" in qsnap(cloud, "upload", source, "--image-id", made["id"], "--format", "raw", want=1).err
        assert cloud.data(made["id"]) == data and cloud.image(made["id"])["disk_format"] == "qcow2"
    with report.test("an internal snapshot arrives as the disk was then"):
        run(os.environ["QSNAP"], "convert", "-l", "monday", "-O", "qcow2", source, "monday.qcow2")
        told = qsnap(cloud, "upload", source, "-l", "monday", "--json").json()
        judge(cloud, told, "monday.qcow2", "qcow2")


def pipes(cloud, source):
    run("qemu-img", "convert", "-O", "qcow2", source, "flat.qcow2")
    run("qemu-img", "convert", "-O", "raw", source, "flat.raw")
    for fmt in ("raw", "qcow2"):
        with report.test(f"{fmt} from standard input arrives as it is"):
            with open(f"flat.{fmt}", "rb") as file:
                told = qsnap(cloud, "upload", "-", "--format", fmt, "--name", "piped", "--json", data=file.read()).json()
            judge(cloud, told, source, fmt)
    with report.test("... but for a qcow2 image that does not stand alone"):
        count = len(cloud.images())
        for path, why in ((source, "a backing file"), ("monday.qcow2", None)):
            with open(path, "rb") as file:
                data = file.read()
            done = qsnap(cloud, "upload", "-", "--format", "qcow2", "--name", "piped", data=data, want=None)
            assert done.status == (1 if why else 0) and (not why or why in done.err), done.err
        assert len(cloud.images()) == count + 1
    with report.test("... and not what is no image, or nothing"):
        qsnap(cloud, "upload", "-", "--format", "qcow2", "--name", "piped", data=b"no image" * 100, want=1)
        qsnap(cloud, "upload", "-", "--format", "raw", "--name", "piped", data=b"", want=1)
        assert len(cloud.images()) == count + 1


def lists(cloud):
    with report.test("images tells what Glance tells, page after page"):
        client = cloud.client()
        for i in range(105):
            client.images.create(name=f"page {i}")
        told = qsnap(cloud, "images", "--json").json()
        assert [(i["id"], i.get("name"), i["status"]) for i in told] == [(i["id"], i["name"], i["status"]) for i in client.images.list()]
        assert len(told) > 105 and len(qsnap(cloud, "images").out.splitlines()) == len(told) + 1
    with report.test("a name that two images have, or none, or one without data, is an error"):
        client.images.create(name="page 1")
        assert "2 images" in qsnap(cloud, "download", "page 1", "x", want=1).err
        assert "no image" in qsnap(cloud, "download", "nobody", "x", want=1).err
        assert "no image" in qsnap(cloud, "download", str(uuid.uuid4()), "x", want=1).err
        assert "queued" in qsnap(cloud, "download", "page 2", "x", want=1).err
        assert not os.path.exists("x")
    with report.test("a target that exists is replaced by a whole one only"):
        with open("old", "w", encoding="utf-8") as file:
            file.write("old")
        qsnap(cloud, "download", "page 2", "old", want=1)
        with open("old", encoding="utf-8") as file:
            assert file.read() == "old"
        qsnap(cloud, "download", "raw", "old")
        assert os.path.getsize("old") == 64 << 20 and os.stat("old").st_blocks * 512 < 16 << 20, "holes stay holes"
    with report.test("an image that leads elsewhere is not followed when it is converted"):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", "trap.qcow2")
        made = client.images.create(name="trap", disk_format="qcow2", container_format="bare")
        with open("trap.qcow2", "rb") as file:
            client.images.upload(made["id"], file)
        qsnap(cloud, "download", "trap", "x", "--format", "raw", want=1)
        assert not os.path.exists("x")


def main():
    with cloud_for_test() as cloud:
        os.chdir(os.path.dirname(cloud.folder))
        source = make_chain(os.getcwd())
        each_way(cloud, source)
        no_room_is_taken(cloud, source)
        records(cloud, source)
        pipes(cloud, source)
        lists(cloud)
    report.finish()


if __name__ == "__main__":
    main()
