#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Snapshots that a guest's disks keep: which was taken of which, what is told when others change the disks, and how they go."""
import json
import os
import subprocess

from guest import Guest
from report import Report, rig_for_test
from rig import run

QSNAP = os.environ.get("QSNAP", os.path.abspath("build/qsnap"))
report = Report()


class Points:
    """qsnap on one guest, and what qemu-img says of its disks."""

    def __init__(self, rig, guest):
        self.rig, self.guest, self.state = rig, guest, rig.path("state")

    def run(self, verb, *words, want=0):
        command = [QSNAP, "-c", self.rig.uri, "vm", "--state", self.state, verb, self.guest.name, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == want, f"{verb} {words}: status {done.returncode}, not {want}: {done.stderr}"
        return done.stdout if want == 0 else done.stderr

    def json(self, verb, *words):
        return json.loads(self.run(verb, *words, "--json"))

    def tree(self):
        """{name: (parent, state)}, and the current one."""
        told = self.json("list", "--tree")
        return {p["name"]: (p.get("parent"), p["state"]) for p in told["snapshots"]}, told.get("current")

    def in_disks(self):
        """Names in each disk, as qemu-img tells, which must be the same."""
        disks = [{s["name"] for s in json.loads(run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", disk.path)).get("snapshots", [])}
                 for disk in self.guest.disks]
        assert all(names == disks[0] for names in disks), disks
        return disks[0]

    def is_tree(self, current, **parents):
        tree, now = self.tree()
        assert tree == {name: (parent, "whole") for name, parent in parents.items()}, tree
        assert now == current and self.in_disks() == set(parents), (now, self.in_disks())
        assert not os.path.exists(os.path.join(self.state, f"{self.guest.uuid}.journal"))


def chain(points, guest, folder):
    with report.test("a chain of kept snapshots, instant and cold, each of the one before"):
        points.run("snapshot", "a", "--mode", "instant", "--via", "internal", "--keep")
        points.run("snapshot", "b", "--mode", "cold", "--keep", "--to", folder)
        points.run("snapshot", "c", "--mode", "instant", "--via", "internal")
        points.is_tree("c", a=None, b="a", c="b")
        guest.wait_records(2)
    with report.test("the tree for people"):
        lines = points.run("list", "--tree").splitlines()
        assert [line.split()[0] for line in lines] == ["a", "b", "c"], lines
        assert lines[2].endswith("(current)") and " cold" in lines[1] and "instant (internal)" in lines[0], lines
    with report.test("show tells all of one, with its images and their digests"):
        (point,) = points.json("show", "b")["snapshots"]
        assert (point["parent"], point["state"], point["mode"], point["current"]) == ("a", "whole", "cold", False), point
        assert [d["path"] for d in point["disks"]] == guest.paths() and f"<name>{guest.name}</name>" in point["xml"], point
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        assert [(x["target"], x["to"], x["sha256"]) for x in point["exports"]] == [
            (d["target"], os.path.join(folder, d["file"]), d["sha256"]) for d in manifest["disks"]], point["exports"]
        text = points.run("show", "b")
        assert "parent: a" in text and manifest["disks"][0]["sha256"] in text, text
        assert "has no snapshot 'x'" in points.run("show", "x", want=1)


def others(points, guest):
    with report.test("what others did to the disks is told: missing, partly, foreign, unlisted"):
        guest.stop()
        vda, vdb = guest.paths()
        (whole,) = points.json("show", "a")["snapshots"]
        assert all(d["exclusive-bytes"] > 0 for d in whole["disks"]), whole["disks"]
        run("qemu-img", "snapshot", "-d", "a", vda)
        assert points.tree()[0]["a"][1] == "partly"
        assert "disk vda has lost it" in points.run("list", "--tree")
        run("qemu-img", "snapshot", "-d", "a", vdb)
        assert points.tree()[0]["a"][1] == "missing"
        for disk in vda, vdb:
            run("qemu-img", "snapshot", "-c", "a", disk)
            run("qemu-img", "snapshot", "-c", "mine", disk)
        tree, _ = points.tree()
        assert tree["a"] == (None, "foreign") and tree["mine"] == (None, "unlisted"), tree
        assert "In the disks alone" in points.run("list", "--tree")
    with report.test("what is not whole is not pruned, and no branch goes that has a foreign one"):
        told = points.json("prune", "--keep-last", "1", "--yes")["snapshots"]
        assert {p["name"] for p in told if p["deleted"]} == {"b"}, told
        assert "nothing is deleted" in points.run("delete", "a", "--children", want=5)
        assert points.in_disks() == {"a", "c", "mine"}
    with report.test("deleted one by one, they are gone from disks and catalog"):
        for name in "mine", "a", "c":
            points.run("delete", name)
        points.is_tree(None)
        run("qemu-img", "check", "-q", vda)
        run("qemu-img", "check", "-q", vdb)


def goes(points):
    with report.test("delete in the middle, and --children the deepest first"):
        for name in "a", "b", "c", "d":
            points.run("snapshot", name)
        points.run("delete", "b")
        points.is_tree("d", a=None, c="a", d="c")
        assert points.run("delete", "c", "--children") == "deleted d\ndeleted c\n"
        points.is_tree("a", a=None)
    with report.test("prune tells first, and deletes with --yes"):
        for name in "e", "f", "g":
            points.run("snapshot", name)
        rules = ("--keep-last", "1", "--keep-name", "[e]")
        text = points.run("prune", *rules)
        assert "2 kept, 2 would be deleted; --yes does it" in text, text
        points.is_tree("g", a=None, e="a", f="e", g="f")
        told = points.json("prune", *rules)
        assert told["dry-run"] and [(p["name"], p["keep"], p["reasons"]) for p in told["snapshots"]] == [
            ("a", False, []), ("e", True, ["name"]), ("f", False, []), ("g", True, ["last"])], told
        text = points.run("prune", *rules, "--yes")
        assert text.endswith("deleted a\ndeleted f\n"), text
        points.is_tree("g", e=None, g="e")
        assert "keep none" in points.run("prune", "--keep-name", "x", "--yes", want=2)
        points.run("delete", "e", "--children")
        points.is_tree(None)


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "tree").boot()
        guest.uuid = rig.virsh("domuuid", "tree").strip()
        points = Points(rig, guest)
        goes(points)
        chain(points, guest, rig.path("images"))
        others(points, guest)
    report.finish()


main()
