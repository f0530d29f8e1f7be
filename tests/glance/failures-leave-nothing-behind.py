#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# time limit: 400
"""What goes wrong on the way: what may pass is tried again, the rest is told, and no image of ours stays that is not whole."""
import contextlib
import hashlib
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cloud import cloud_for_test  # noqa: E402
from program import QSNAP, make_chain, qsnap, start  # noqa: E402
from proxy import Proxy  # noqa: E402
from report import Report  # noqa: E402
from rig import run, wait_until  # noqa: E402

report = Report()
MANY = 1000
MIB = 1 << 20


class World:
    """The cloud, with a proxy before Glance as the region Cut, and a source."""

    def __init__(self, cloud, proxy, source):
        self.cloud, self.proxy, self.source = cloud, proxy, source
        cloud.region("Cut", proxy.url)
        self.through = {"OS_REGION_NAME": "Cut"}

    def upload(self, *words, source=None, **more):
        return qsnap(self.cloud, "upload", source or self.source, "--json", "--timeout", "3", *words, environment=self.through, **more)

    @contextlib.contextmanager
    def nothing_left(self):
        before = set(self.cloud.images())
        yield
        left = set(self.cloud.images()) - before
        assert not left, f"left: {left}"

    @contextlib.contextmanager
    def one_more(self):
        """One image, whole, and nothing else."""
        before = set(self.cloud.images())
        yield
        new = set(self.cloud.images()) - before
        assert len(new) == 1, new
        record, data = self.cloud.image(new.pop()), None
        data = self.cloud.data(record["id"])
        assert record["status"] == "active" and record["os_hash_value"] == hashlib.new(record["os_hash_algo"], data).hexdigest()


def changed(key, by=None):
    """Changes the last character of a value in JSON, or the value."""
    def change(data):
        pattern = rb'("%s": "?)([^",]+)' % key.encode()

        def other(match):
            value = match[2]
            return match[1] + (by.encode() if by else value[:-1] + (b"1" if value[-1:] != b"1" else b"2"))

        return re.sub(pattern, other, data)
    return change


PASSES = {
    "a connection that breaks": ("PUT", "/file", {"cut": 2 * MIB}),
    "a connection that breaks before the last bytes": ("PUT", "/file", {"cut": 5 * MIB}),
    "an answer to the bytes that is lost": ("PUT", "/file", {"lose": True}),
    "an answer to the new record that is lost": ("POST", "/images", {"lose": True}),
    "a service that is not available": ("PUT", "/file", {"answer": (503, b"later")}),
    "... that fails after some bytes": ("PUT", "/file", {"answer": (500, b"oops"), "after": MIB}),
    "... that fails to make the record": ("POST", "/images", {"answer": (502, b"")}),
    "... that fails to tell of the image": ("GET", "/images/", {"answer": (504, b"")}),
    "too many requests": ("POST", "/images", {"answer": (429, b"")}),
    "a service that goes silent": ("PUT", "/file", {"silent": MIB}),
    "... that does not answer": ("GET", "/images/", {"silent": 0, "down": True}),
    "a token that is refused": ("PUT", "/file", {"answer": (401, b"")}),
    "... for the record": ("POST", "/images", {"answer": (401, b"")}),
    "... when the image is asked for": ("GET", "/images/", {"answer": (401, b"")}),
}
LASTS = {
    "a connection that always breaks": ("PUT", "/file", {"cut": MIB}, "trying again"),
    "a service that is always silent": ("PUT", "/file", {"silent": MIB}, "nothing moved"),
    "a service that always fails": ("PUT", "/file", {"answer": (500, b"")}, "HTTP 500"),
    "bytes that change on the way": ("PUT", "/file", {"flip": MIB}, "MD5"),
    "another digest": ("GET", "/images/", {"change": changed("os_hash_value")}, "sha512"),
    "another MD5": ("GET", "/images/", {"change": changed("checksum")}, "MD5"),
    "another size": ("GET", "/images/", {"change": changed("size")}, "bytes"),
    "another disk": ("GET", "/images/", {"change": changed("virtual_size")}, "disk"),
    "a status that is not active": ("GET", "/images/", {"change": changed("status", "killed")}, "killed"),
    "a conflict": ("PUT", "/file", {"answer": (409, b"")}, "HTTP 409"),
    "a format that is refused": ("PUT", "/file", {"answer": (415, b""), "after": MIB}, "HTTP 415"),
    "a token that is always refused": ("PUT", "/file", {"answer": (401, b"")}, "HTTP 401"),
}


def on_the_way(world):
    for name, (method, part, what) in PASSES.items():
        with report.test(f"{name}: is tried again"), world.one_more(), world.proxy.rule(method, part, **what) as rule:
            world.upload()
            assert rule.hits == 1
    for name, (method, part, what, says) in LASTS.items():
        with report.test(f"{name}: is told, and nothing is left"), world.nothing_left(), world.proxy.rule(method, part, count=MANY, **what) as rule:
            done = world.upload("--retries", "1", want=1)
            assert rule.hits and says in done.err, done.err
    with report.test("what cannot be deleted at once is deleted later"), world.nothing_left(), \
            world.proxy.rule("PUT", "/file", count=MANY, answer=(403, b"")), world.proxy.rule("DELETE", "/images/", answer=(503, b"")) as rule:
        world.upload(want=1)
        assert rule.hits == 1
    with report.test("what cannot be deleted at all is told by its id"), world.proxy.rule("PUT", "/file", answer=(403, b"")), \
            world.proxy.rule("DELETE", "/images/", count=MANY, answer=(403, b"")):
        before = set(world.cloud.images())
        done = world.upload(want=1)
        left = (set(world.cloud.images()) - before).pop()
        assert f"image {left} was begun and is still there" in done.err, done.err
        assert world.cloud.images()[left]["status"] == "queued"
    with report.test("a record that is not ours is not deleted"), world.proxy.rule("PUT", "/file", count=MANY, cut=MIB):
        made = world.cloud.client().images.create(name="nova's")
        world.upload("--image-id", made["id"], "--retries", "1", want=1)
        wait_until("it is queued again", lambda: world.cloud.image(made["id"])["status"] == "queued")
    with report.test("... and is filled when it works again"):
        assert world.upload("--image-id", made["id"]).json()["id"] == made["id"]


def by_the_real_one(world):
    cloud = world.cloud
    with report.test("the image is deleted meanwhile: told, not tried again"), world.nothing_left():
        def delete():
            for image in cloud.images().values():
                if image["name"] == "victim":
                    cloud.client().images.delete(image["id"])
        with world.proxy.rule("PUT", "/file", after=MIB, call=delete):
            done = world.upload("--name", "victim", want=1)
            assert "deleted meanwhile" in done.err and "trying again" not in done.err, done.err
    with report.test("somebody else is filling the record: told, and it gets what it was given"):
        made = cloud.client().images.create(name="both")
        first = start(cloud, "upload", world.source, "--image-id", made["id"], "--rate", "3M", "--json")
        wait_until("it is saving", lambda: cloud.image(made["id"])["status"] == "saving")
        assert "saving" in qsnap(cloud, "upload", world.source, "--format", "raw", "--image-id", made["id"], want=1).err
        out, err = first.communicate(timeout=100)
        assert first.returncode == 0 and cloud.image(made["id"])["disk_format"] == "qcow2", (out, err)
    pipe = ("upload", "-", "--format", "raw", "--name", "piped")
    with cloud.settings(user_storage_quota="20MB", image_property_quota="3"):
        with report.test("a quota: told at once, and nothing is left"), world.nothing_left():
            done = qsnap(cloud, "upload", world.source, "--format", "raw", want=1)
            assert "HTTP 413" in done.err and "trying again" not in done.err, done.err
        with report.test("... also when the length was not known"), world.nothing_left():
            assert "HTTP 413" in qsnap(cloud, *pipe, data=bytes(64 * MIB), want=1).err
        with report.test("too many properties: told, and nothing is left"), world.nothing_left():
            words = [word for i in range(9) for word in ("--property", f"key{i}=value")]
            assert "HTTP 413" in qsnap(cloud, "upload", world.source, *words, want=1).err
    with cloud.settings(image_size_cap="2000000"):
        with report.test("a cap: told, and nothing is left"), world.nothing_left():
            assert "HTTP 413" in qsnap(cloud, "upload", world.source, want=1).err
            assert "HTTP 413" in qsnap(cloud, *pipe, data=bytes(9 * MIB), want=1).err
    with cloud.settings(hashing_algorithm="sha256"), report.test("another algorithm: the image is read back"), world.one_more():
        done = qsnap(cloud, "upload", world.source, "--json")
        assert done.json()["os_hash_algo"] == "sha256" and "read back" in done.err, done.err


def imports(world):
    def importing(data):
        return data.replace(b'"status": "active"', b'"status": "queued"')

    with report.test("an import that fails: its reason is told, and nothing is left"), world.nothing_left(), \
            world.proxy.rule("GET", "/tasks", count=MANY, change=lambda data: data.replace(b'"status": "success"', b'"status": "failure"')) as rule, \
            world.proxy.rule("GET", "/images/", count=MANY, change=importing):
        done = world.upload("--via", "import", want=1)
        assert rule.hits and "the import failed" in done.err, done.err
    with report.test("a connection that breaks while staging: is tried again"), world.one_more(), world.proxy.rule("PUT", "/stage", cut=MIB) as rule:
        world.upload("--via", "import")
        assert rule.hits == 1
    with report.test("an answer to the import that is lost: is asked again"), world.one_more(), world.proxy.rule("POST", "/import", lose=True) as rule:
        world.upload("--via", "import")
        assert rule.hits == 1


def signals(world):
    for sig in (signal.SIGINT, signal.SIGTERM):
        with report.test(f"{sig.name} in the middle leaves nothing"), world.nothing_left():
            process = start(world.cloud, "upload", world.source, "--name", "cancelled", "--rate", "1M")
            wait_until("it is saving", lambda: "saving" in [i["status"] for i in world.cloud.images().values()])
            process.send_signal(sig)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 128 + sig, (process.returncode, err)
    with report.test("SIGKILL in the middle leaves nothing that claims to be whole"):
        before = set(world.cloud.images())
        process = start(world.cloud, "upload", world.source, "--name", "killed", "--rate", "1M")
        wait_until("it is saving", lambda: "saving" in [i["status"] for i in world.cloud.images().values()])
        process.kill()
        process.communicate()
        new = (set(world.cloud.images()) - before).pop()
        wait_until("it has no data", lambda: world.cloud.images()[new]["status"] == "queued")


def sources(world):
    with report.test("a source that cannot be opened makes no record"), world.nothing_left():
        count = len(world.proxy.requests)
        world.upload(source="nowhere.qcow2", want=1)
        assert len(world.proxy.requests) == count
    with report.test("a source that is damaged leaves nothing"), world.nothing_left():
        with open("text", "w", encoding="ascii") as file:
            file.writelines(f"{i}: all work and no play\n" for i in range(400000))
        run(QSNAP, "convert", "-c", "-O", "qcow2", "text", "damaged.qcow2")
        with open("damaged.qcow2", "r+b") as file:
            file.seek(os.path.getsize("damaged.qcow2") // 2)
            file.write(b"\xff" * 65536)
        world.upload("--format", "raw", source="damaged.qcow2", want=1)
    with report.test("a snapshot that goes while it is read leaves nothing"), world.nothing_left():
        run("cp", world.source, "going.qcow2")
        drop = lambda: run(QSNAP, "snapshot", "-d", "monday", "going.qcow2")  # noqa: E731
        with world.proxy.rule("PUT", "/file", after=MIB, call=drop) as rule:
            done = world.upload("-l", "monday", "-U", source="going.qcow2", want=1)
            assert rule.hits == 1 and "monday" in done.err, done.err


DOWNLOADS = {
    "a connection that breaks": {"cut": 2 * MIB, "down": True},
    "a service that goes silent": {"silent": 2 * MIB, "down": True},
    "a service that fails": {"answer": (503, b"")},
    "a token that is refused": {"answer": (401, b"")},
}


def downloads(world):
    image = world.upload("--name", "whole").json()
    words = ("download", image["id"], "back", "--timeout", "3")
    data = world.cloud.data(image["id"])
    for name, what in DOWNLOADS.items():
        with report.test(f"{name} while downloading: goes on"), world.proxy.rule("GET", "/file", **what) as rule:
            qsnap(world.cloud, *words, environment=world.through)
            with open("back", "rb") as file:
                assert rule.hits == 1 and file.read() == data
            os.unlink("back")
            ranged = any(h.lower().startswith(b"range: bytes=2") for h in world.proxy.requests[-1][1])
            assert ranged == ("down" in what), world.proxy.requests[-1]
    with report.test("... also where the service takes no ranges"), world.proxy.rule("GET", "/file", cut=2 * MIB, down=True), \
            world.proxy.rule("GET", "/file", count=1, without=b"range") as rule:
        assert qsnap(world.cloud, "download", image["id"], "-", environment=world.through).out == data and rule.hits == 1
    with report.test("bytes that change on the way make no file"):
        def flip(answer):
            return answer[:-1000] + bytes([answer[-1000] ^ 1]) + answer[-999:]
        with world.proxy.rule("GET", "/file", count=MANY, change=flip):
            assert "digest" in qsnap(world.cloud, *words, environment=world.through, want=1).err
            qsnap(world.cloud, *words, "--format", "raw", environment=world.through, want=1)
        assert not os.path.exists("back")
    with report.test("a connection that always breaks makes no file"), world.proxy.rule("GET", "/file", count=MANY, cut=0, down=True):
        qsnap(world.cloud, *words, "--retries", "1", environment=world.through, want=1)
        assert not os.path.exists("back")


def time_passes(world):
    cloud = world.cloud
    cloud.stop_keystone()
    cloud.start_keystone(token_seconds=4)
    with report.test("a token that expires in the middle of an upload is renewed"), world.one_more():
        began = time.monotonic()
        qsnap(cloud, "upload", world.source, "--format", "raw", "--rate", "10M")
        assert time.monotonic() - began > 4.5
    cloud.stop_glance()
    with report.test("a service that is not there is told"):
        assert "onnect" in qsnap(cloud, "images", "--retries", "0", want=1).err


def main():
    with cloud_for_test() as cloud, Proxy(cloud.glance_port) as proxy:
        os.chdir(os.path.dirname(cloud.folder))
        world = World(cloud, proxy, make_chain(os.getcwd()))
        for part in (on_the_way, by_the_real_one, imports, signals, sources, downloads, time_passes):
            if not os.environ.get("ONLY") or part.__name__ in os.environ["ONLY"].split(","):
                part(world)
    report.finish()


if __name__ == "__main__":
    main()
