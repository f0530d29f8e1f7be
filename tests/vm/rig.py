# SPDX-License-Identifier: Apache-2.0
"""A libvirtd of our own, beside any other on the machine, for the tests of running guests (see README.md in this folder).

libvirtd runs in a mount namespace where /etc/libvirt, /run/libvirt, /var/lib/libvirt, /var/log/libvirt, /var/cache/libvirt and
/etc/passwd are ours, below the rig's folder: two rigs, or a rig and the machine's own libvirtd, know nothing of each other.
The folder is a shared mount, so that what is mounted below it later is seen in there, too. Processes are ended by pid only.
"""
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
PARTS = os.path.join(TOP, "build/vm")  # what build-guest makes
KNOWN = os.path.join(PARTS, "capabilities")
PLACES = {"etc": "/etc/libvirt", "run": "/run/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt", "cache": "/var/cache/libvirt"}
NEEDED = ["libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare", "mount", "nsenter", "e2fsck", "debugfs"]
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
MODULES = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver"

QEMU_CONF = """user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """listen_tls = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
"""


class RigError(Exception):
    """The rig, or a guest on it, does not do what it should; the text says what."""


def why_not():
    """Why there can be no rig on this machine, or None."""
    if os.geteuid() != 0:
        return "libvirtd and mount namespaces need root"
    missing = [name for name in NEEDED if not shutil.which(name, path=PATH)]
    if missing:
        return f"not installed: {', '.join(missing)} (scripts/deps test)"
    tried = subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.PIPE, text=True, check=False)
    return f"no mount namespace can be had here: {tried.stderr.strip()}" if tried.returncode else None


def wait_until(what, condition, timeout=400, pause=0.02):
    """What `condition` gives, once that is true."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RigError(f"not so within {timeout} seconds: {what}")
        time.sleep(pause)


def run(*command, want=0, timeout=300, **more):
    """The output of a command that must end with the status `want` (None: any)."""
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
                          timeout=timeout, check=False, env={**os.environ, "PATH": PATH, "LC_ALL": "C"}, **more)
    if want is not None and done.returncode != want:
        raise RigError(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def read(path, default=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return default


def end_process(pid, sig=signal.SIGKILL, timeout=60):
    """Ends it and waits until it is gone; nothing when it is gone already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, sig)
        if not select.select([fd], [], [], timeout)[0]:
            raise RigError(f"process {pid} goes on after signal {int(sig)}")
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
    # a child of ours is gone only when it was waited for
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


class Rig:
    """`with Rig(folder) as rig:` or up() and down(). `folder` is made when missing; `uri` is what virsh -c wants."""

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.uri = f"qemu:///system?socket={self.folder}/run/libvirt-sock"
        self.keeper = None
        self.place = None
        if len(self.folder) > 80:
            raise RigError(f"{self.folder}: too long a path for the sockets below it")

    def __enter__(self):
        try:
            return self.up()
        except BaseException:
            self.down()
            raise

    def __exit__(self, *_):
        self.down()

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def virsh(self, *words, **more):
        return run("virsh", "-q", "-c", self.uri, *words, **more).strip()

    # ---- up and down ----

    def up(self, keeper=os.getpid):
        """Starts it; when the process `keeper()` ends (None: never), however that may be, so does the rig."""
        why = why_not()
        if why:
            raise RigError(why)
        run(os.path.join(HERE, "build-guest"), PARTS)
        for name in [*PLACES, "drivers", "guests", "lib/qemu"]:
            os.makedirs(self.path(name), exist_ok=True)
        for place in PLACES.values():
            os.makedirs(place, exist_ok=True)
        if not self._mounted():
            run("mount", "--bind", self.folder, self.folder)
            run("mount", "--make-private", self.folder)
            run("mount", "--make-shared", self.folder)
        self._write("etc/qemu.conf", QEMU_CONF)
        self._write("etc/libvirtd.conf", LIBVIRTD_CONF)
        self._write_user_files()
        module = self.path("drivers/libvirt_driver_qemu.so")
        if not os.path.lexists(module):
            os.symlink(os.path.join(MODULES, "libvirt_driver_qemu.so"), module)
        # what libvirt finds out about QEMU takes it seconds; it looks itself whether that still holds
        if os.path.isdir(KNOWN):
            shutil.copytree(KNOWN, self.path("cache/qemu/capabilities"), dirs_exist_ok=True)
        if keeper:
            self.keeper = subprocess.Popen([sys.executable, os.path.join(HERE, "rig"), "keep", self.folder, str(keeper())], cwd="/",
                                           start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.start_libvirtd()
        if self.keeper:
            self.keeper.stdout.readline()  # it is there
            self.keeper.stdout.close()
        return self

    def _mounted(self):
        """Whether the folder is a mount; os.path.ismount does not see one of the same file system."""
        return any(line.split(" ")[4].replace("\\040", " ") == self.folder for line in read("/proc/self/mountinfo").splitlines())

    def _write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def _write_user_files(self):
        """libvirtd wants to know the user libvirt-qemu and the group kvm, even when it is told to use neither."""
        users, groups = read("/etc/passwd"), read("/etc/group")
        if "libvirt-qemu:" not in users:
            users += "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin\n"
        if "\nkvm:" not in groups:
            groups += "kvm:x:64054:\n"
        if "\nlibvirt-qemu:" not in groups:
            groups += "libvirt-qemu:x:64055:\n"
        self._write("passwd", users)
        self._write("group", groups)

    def start_libvirtd(self):
        """Starts libvirtd (again) and waits until it answers; guests that run are found by it."""
        script = "set -e\n" + "".join(f"mount --bind {self.path(name)} {place}\n" for name, place in PLACES.items())
        script += f"mount --bind {self.path('passwd')} /etc/passwd\nmount --bind {self.path('group')} /etc/group\n"
        script += f"exec libvirtd -f {self.path('etc/libvirtd.conf')} -p {self.path('run/libvirtd.pid')}\n"
        if os.path.exists(self.path("run/libvirtd.pid")):
            os.unlink(self.path("run/libvirtd.pid"))
        environment = {**os.environ, "PATH": PATH, "LC_ALL": "C", "LIBVIRT_DRIVER_DIR": self.path("drivers")}
        with open(self.path("libvirtd.out"), "a", encoding="utf-8") as out:
            command = [sys.executable, os.path.join(HERE, "rig"), "reap", "unshare", "--mount", "--propagation", "slave", "sh", "-c", script]
            daemon = subprocess.Popen(command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

        def answers():
            if daemon.poll() is not None:
                raise RigError(f"libvirtd ended:\n{read(self.path('libvirtd.out'))[-2000:]}")
            probe = subprocess.run(["virsh", "-q", "-c", self.uri, "list"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            return probe.returncode == 0

        wait_until("libvirtd answers", answers)

    def libvirtd_pid(self):
        """The pid of this rig's libvirtd, or None when it does not run."""
        text = read(self.path("run/libvirtd.pid")).strip()
        return int(text) if text and self.owns(int(text)) else None

    def inside(self):
        """What to put before a command that is to see the files that libvirtd sees, where it does."""
        return ["nsenter", f"--mount=/proc/{self.libvirtd_pid()}/ns/mnt"]

    def kill_libvirtd(self, sig=signal.SIGKILL):
        pid = self.libvirtd_pid()
        if pid is None:
            raise RigError("libvirtd does not run")
        end_process(pid, sig)

    def owns(self, pid):
        """Whether a process is a libvirtd or QEMU that sees this rig's files. (The number of a namespace says nothing: it is given again.)"""
        try:
            name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
            return name.startswith(("libvirt", "qemu-")) and self._identity(f"/proc/{pid}/root{PLACES['lib']}") == (self.place or self._identity(self.path("lib")))
        except OSError:
            return False

    @staticmethod
    def _identity(path):
        found = os.stat(path)
        return found.st_dev, found.st_ino

    def hold(self):
        """From now on it is known which processes are the rig's even when somebody removes its files."""
        self.place = self._identity(self.path("lib"))

    def processes(self):
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and self.owns(int(name))]

    def small_fs(self, name, size, kind="ext4"):
        """A file system of that size (as 64M) below the rig's folder, ext4 or tmpfs, that guests see as well: it can be filled up."""
        place = self.path(name)
        os.makedirs(place, exist_ok=True)
        if kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
            return place
        image = place + ".image"
        run("truncate", "-s", size, image)
        run(f"mkfs.{kind}", "-q", image)
        run("mount", "-o", "loop", image, place)
        return place

    def down(self):
        """Ends libvirtd and every guest, and takes the mounts away; logs and disks stay."""
        pid = self.libvirtd_pid()
        found = self.path("cache/qemu/capabilities")
        if os.path.isdir(found) and not os.path.isdir(KNOWN):
            copy = tempfile.mkdtemp(dir=PARTS)
            shutil.copytree(found, os.path.join(copy, "found"))
            try:
                os.rename(os.path.join(copy, "found"), KNOWN)
            except OSError:
                pass  # another rig was faster
            shutil.rmtree(copy)
        if pid:
            try:
                end_process(pid, signal.SIGTERM, 20)
            except RigError:
                end_process(pid)
        for pid in self.processes():
            end_process(pid)
        while self._mounted():
            try:
                run("umount", "--recursive", "--lazy", self.folder)
            except RigError:
                if self._mounted():  # else whoever keeps the rig was faster
                    raise
        if self.keeper:
            self.keeper.kill()
            self.keeper.wait()
            self.keeper = None
