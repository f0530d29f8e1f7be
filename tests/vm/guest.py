# SPDX-License-Identifier: Apache-2.0
"""The small guest on a rig: made, booted, watched by the beats it sends, and ended.

What can be chosen (all are words, so that `rig guest` can hand them over):
  disks=qcow2,qcow2   a disk for each: qcow2 (an overlay over a base), plain (qcow2 without one), raw
  images=A,B          these files are the disks, instead of new ones; their formats are those of `disks`
  place=DIR           where new disks are made, instead of the guest's own folder (see Rig.small_fs)
  noise=64            MiB of random bytes in each disk (its base), where the guest has nothing
  size=1T             of the disks that are plain, then with all their metadata preallocated; the guest uses the first 256 MiB
  cache=none  discard=unmap  iothread=1  vcpus=1  memory=128 (MiB)
  emulator=PATH       instead of the installed one (newer_emulator() is one)
  agent=yes  writer=on|beat|off  rate=60  mount=yes  trim=SECONDS  dirty=MIB   (guest/init says what they mean)
"""
import json
import os
import shutil
import signal
import subprocess
import xml.sax.saxutils

from rig import PARTS, TOP, RigError, end_process, read, run, wait_until

NOISE_AT = 144 << 20  # the file system has its journal before
INSTALLED = "/usr/bin/qemu-system-x86_64"
DEFAULTS = {"disks": "qcow2,qcow2", "images": "", "place": "", "noise": "", "size": "", "cache": "none", "discard": "", "iothread": "",
            "emulator": INSTALLED, "vcpus": "1", "memory": "128", "agent": "yes", "writer": "on", "rate": "60", "mount": "yes", "trim": "", "dirty": ""}

DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  {iothreads}
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{parts}/kernel</kernel>
    <initrd>{parts}/initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 WRITER={writer} RATE={rate} MOUNT={mount} TRIM={trim} DIRTY={dirty} AGENT={agent}</cmdline>
  </os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    {disks}
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{folder}/console' append='on'/><target port='0'/></serial>
    <channel type='file'><source path='{beats}' append='on'/><target type='virtio' name='org.qsnap.beat'/></channel>
    {channel}
    <memballoon model='none'/>
  </devices>
</domain>
"""
DISK = """<disk type='{type}' device='disk'>
      <driver name='qemu' type='{format}' cache='{cache}'{more}/>
      <source {attribute}='{path}'/>
      <target dev='{target}' bus='virtio'/>
    </disk>"""
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


def newer_emulator():
    """The path of the QEMU of Debian's backports, which knows what a guest changes while its memory is written; None where it cannot be had."""
    said = subprocess.run([os.path.join(TOP, "scripts/peer"), "--emulator"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout.split()
    return said[1] if said and float(said[0]) >= 9 else None


class Disk:
    """One disk of a guest: `path` is what the domain has, `base` what lies below it or None."""

    def __init__(self, target, path, image_format, base=None):
        self.target, self.path, self.format, self.base = target, path, image_format, base


class Guest:
    def __init__(self, rig, name, **options):
        unknown = set(options) - set(DEFAULTS)
        if unknown:
            raise RigError(f"a guest has no {', '.join(sorted(unknown))}")
        self.rig, self.name = rig, name
        self.options = {**DEFAULTS, **{key: str(value) for key, value in options.items()}}
        self.folder = rig.path("guests", name)
        self.beats = os.path.join(self.folder, "beats")
        self.disks = []

    # ---- making ----

    def make(self):
        """Makes the disks, defines the domain; does not start it."""
        os.makedirs(self.folder, exist_ok=True)
        images = [word for word in self.options["images"].split(",") if word]
        for i, kind in enumerate(self.options["disks"].split(",")):
            target = "vd" + "abcd"[i]
            self.disks.append(Disk(target, images[i], "raw" if kind == "raw" else "qcow2") if images else self._new_disk(target, kind))
        self.define()
        return self

    def _new_disk(self, target, kind):
        raw, place, base = os.path.join(PARTS, "disk.raw"), self.options["place"] or self.folder, None
        path = os.path.join(place, f"{target}.{kind}")
        if kind == "raw":
            run("cp", "--sparse=always", raw, path)
        elif kind == "plain" and self.options["size"]:
            run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, self.options["size"])
            run("qemu-img", "convert", "-n", "--target-is-zero", "-O", "qcow2", raw, path)
        elif kind == "plain":
            run("qemu-img", "convert", "-O", "qcow2", raw, path)
        elif kind == "qcow2":
            base = os.path.join(place, f"{target}-base.qcow2")
            run("qemu-img", "convert", "-O", "qcow2", raw, base)
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path)
        else:
            raise RigError(f"no kind of disk: {kind}")
        if self.options["noise"]:
            self._add_noise(base or path, "raw" if kind == "raw" else "qcow2")
        return Disk(target, path, "raw" if kind == "raw" else "qcow2", base)

    def _add_noise(self, path, image_format):
        noise = path + ".noise"
        with open(noise, "wb") as file:
            file.write(os.urandom(int(self.options["noise"]) << 20))
        run("qemu-io", "-f", image_format, "-c", f"write -q -s {noise} {NOISE_AT} {os.path.getsize(noise)}", path)
        os.unlink(noise)

    def xml(self):
        o = self.options
        more = f" discard='{o['discard']}'" if o["discard"] else ""
        more += " iothread='1'" if o["iothread"] else ""
        disks = []
        for disk in self.disks:
            block = os.path.exists(disk.path) and not os.path.isfile(disk.path)
            disks.append(DISK.format(type="block" if block else "file", attribute="dev" if block else "file", format=disk.format, more=more,
                                     cache=o["cache"], path=xml.sax.saxutils.escape(disk.path, {"'": "&apos;"}), target=disk.target))
        return DOMAIN.format(name=self.name, parts=PARTS, folder=self.folder, beats=self.beats, disks="\n    ".join(disks),
                             iothreads="<iothreads>1</iothreads>" if o["iothread"] else "", channel=CHANNEL if o["agent"] == "yes" else "",
                             **{key: o[key] for key in ("emulator", "memory", "vcpus", "writer", "rate", "mount", "trim", "dirty", "agent")})

    def define(self):
        path = os.path.join(self.folder, "domain.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.xml())
        self.virsh("define", path)

    def paths(self):
        return [disk.path for disk in self.disks]

    def virsh(self, *words, **more):
        return self.rig.virsh(*words, **more)

    # ---- running ----

    def start(self):
        self.virsh("start", self.name)

    def boot(self):
        """make(), start(), and wait until it writes."""
        self.make()
        self.start()
        if self.options["writer"] == "off":
            wait_until(f"{self.name} is up", lambda: "ready" in read(self.beats))
        else:
            self.wait_records(1)
        return self

    def state(self):
        """As virsh says it: running, paused, shut off..."""
        return self.virsh("domstate", self.name)

    def wait_state(self, *states):
        """Waits until virsh says one of these."""
        return wait_until(f"{self.name} is {' or '.join(states)}", lambda: self.state() in states)

    def pid(self):
        """QEMU's pid, or None."""
        text = read(self.rig.path("run/qemu", f"{self.name}.pid")).strip()
        return int(text) if text and self.rig.owns(int(text)) else None

    def kill(self):
        """kill -9 of QEMU; libvirt, when it runs, says "shut off" a moment later."""
        pid = self.pid()
        if pid is None:
            raise RigError(f"{self.name} does not run")
        end_process(pid, signal.SIGKILL)

    def stop(self):
        """As pulling the plug; nothing when it is off."""
        self.virsh("destroy", self.name, want=None)
        if self.state() not in ("shut off", "crashed"):
            raise RigError(f"{self.name} is not off: {self.state()}")

    def remove(self):
        """Stops it, and takes the definition and the files away."""
        self.stop()
        self.virsh("undefine", self.name, "--managed-save", "--snapshots-metadata", "--checkpoints-metadata")
        shutil.rmtree(self.folder)

    def monitor(self, command, **arguments):
        """What QEMU returns; RigError when it refuses."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        answer = json.loads(self.virsh("qemu-monitor-command", self.name, json.dumps(request)))
        if "return" not in answer:
            raise RigError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    # ---- what it says ----

    def numbers(self, start=0):
        """The numbers in the beats from that byte on."""
        with open(self.beats, "rb") as file:
            file.seek(start)
            lines = file.read().split(b"\n")[:-1]
        return [int(line) for line in lines if line.isdigit()]

    def last(self):
        """The newest record that the host was told of, 0 before the first: whoever looks at the disks later must find it."""
        try:
            return (self.numbers(max(0, os.path.getsize(self.beats) - 200)) or [0])[-1]
        except FileNotFoundError:
            return 0

    def wait_records(self, count, timeout=400):
        """Waits until it has written that many more, and gives the newest one's number."""
        start = os.path.getsize(self.beats) if os.path.exists(self.beats) else 0
        # from a whole line on
        while start and not read(self.beats)[start - 1].isspace():
            start = os.path.getsize(self.beats)

        def there():
            if not os.path.exists(self.beats):
                return None
            if "torn" in read(self.beats)[start:]:
                raise RigError(f"{self.name} found disks of different instants:\n{self.console()}")
            return len(self.numbers(start)) >= count

        try:
            wait_until(f"{count} more records from {self.name}", there, timeout)
        except RigError as why:
            raise RigError(f"{why}\nstate: {self.state()}\n{self.console()}") from None
        return self.last()

    def console(self):
        return read(os.path.join(self.folder, "console"))[-1500:]

    # ---- the agent ----

    def agent(self, command, **arguments):
        """What the guest agent returns; RigError when it does not answer."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        return json.loads(self.virsh("qemu-agent-command", self.name, json.dumps(request)))["return"]

    def wait_agent(self):
        """Waits until the agent answers."""
        def answers():
            try:
                return self.agent("guest-ping") == {}
            except RigError:
                return False
        wait_until(f"the agent of {self.name} answers", answers)

    def frozen(self):
        return self.agent("guest-fsfreeze-status") != "thawed"
