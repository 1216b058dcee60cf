"""hosts.py HOSTS COMMAND…: several hosts on this machine, and COMMAND beside them.

A host is a set of namespaces: a network with one address, a host name, processes, /proc and /dev/shm of its own; files
are shared. Hosts h0, h1, … and `head`, from which COMMAND starts what it wants on them, are joined by a bridge. All of it
lies in a user namespace, in a network of its own, so that it takes no root, touches nothing of this machine's network,
and is gone with this process, however that ends.

Needs util-linux (unshare, nsenter), iproute2, and a kernel that lets users make namespaces, bridges and pairs of veth;
where they may not, says what was refused and exits 77. In COMMAND's environment HYDRA_LAUNCHER_EXEC (MPICH) and
OMPI_MCA_plm_rsh_agent (Open MPI) start processes on the other hosts: hosts.py 2 mpirun -hosts h0,h1 -n 2 hostname.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIP = 77
OUTER = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
         "--mount-proc"]
HOST = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
SPACES = ["--net", "--mount", "--uts", "--ipc", "--pid"]  # of a host, to be entered
# All that is asked of the kernel, once.
PROBE = " && ".join([
    "ip link add name probe type bridge", "ip link add name probe-a type veth peer name probe-b",
    "mount --bind /etc/hosts /etc/hosts", "exec " + " ".join(HOST) + " sh -c 'hostname probe && mount -t tmpfs none /dev/shm'"])


def skip(why):
    print(f"skipped: {why}", file=sys.stderr)
    sys.exit(SKIP)


def enter():
    """Starts this program again where it may make hosts, and returns there."""
    if os.environ.pop("AMC_TEST_HOSTS", "") == "inside" and os.getpid() == 1:
        return
    path = os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    for program, package in (("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2"), ("hostname", "hostname")):
        if not shutil.which(program, path=path):
            skip(f"several hosts on this machine take {program} (Debian: {package}), which is not in PATH")
    probe = subprocess.run([*OUTER, "sh", "-c", PROBE], capture_output=True, text=True)
    if probe.returncode:
        skip("several hosts on this machine take a kernel that lets users make user, network and process namespaces, bridges "
             f"and veth pairs (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone; containers often forbid it): "
             f"{probe.stderr.strip()}")
    os.environ["AMC_TEST_HOSTS"] = "inside"
    os.execvp(OUTER[0], [*OUTER, sys.executable, *sys.argv])


class Hosts:
    """To be made behind enter(), once in a process."""

    def __init__(self, count):
        self.names = [f"h{i}" for i in range(count)]
        self.folder = tempfile.mkdtemp(prefix="amc-hosts.")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))  # the first process of a namespace has no default action
        with open(self.path("hosts"), "w") as file:
            file.write("127.0.0.1 localhost\n10.77.0.254 head\n" + "".join(f"10.77.0.{i + 1} h{i}\n" for i in range(count)))
        self.run("mount", "--bind", self.path("hosts"), "/etc/hosts")
        self.run("ip", "link", "add", "name", "switch", "type", "bridge")
        self.run("ip", "address", "add", "10.77.0.254/24", "dev", "switch")
        for device in ("switch", "lo"):
            self.run("ip", "link", "set", device, "up")
        self.run("hostname", "head")
        self.holders = [self.start(i) for i in range(count)]
        with open(self.path("enter"), "w") as file:
            file.write(ENTER.format(folder=self.folder, path=os.environ["PATH"], spaces=" ".join(SPACES)))
        os.chmod(self.path("enter"), 0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *command):
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{' '.join(command)} exited with {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def start(self, i):
        # Its first process: stays, and reaps, as children's ends are ignored.
        ready = f"trap '' CHLD; hostname h{i} && mount -t tmpfs none /dev/shm && echo ready && exec sleep infinity"
        holder = subprocess.Popen([*HOST, "sh", "-c", ready], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if holder.stdout.readline() != "ready\n":
            sys.exit(f"host {i} does not start")
        with open(f"/proc/{holder.pid}/task/{holder.pid}/children") as file:
            pid = file.read().strip()
        with open(self.path(f"h{i}"), "w") as file:
            file.write(pid)
        port, inside = f"port{i}", ["nsenter", "--target", pid, "--net", "ip"]
        self.run("ip", "link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", pid)
        self.run("ip", "link", "set", port, "master", "switch", "up")
        self.run(*inside, "address", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
        self.run(*inside, "link", "set", "eth0", "up")
        self.run(*inside, "link", "set", "lo", "up")
        return holder

    def environment(self):
        return os.environ | {"HYDRA_LAUNCHER": "ssh", "HYDRA_LAUNCHER_EXEC": self.path("enter"),
                             "OMPI_MCA_plm_rsh_agent": self.path("enter"), "PRTE_MCA_plm_ssh_agent": self.path("enter")}

    def link(self, host, state):
        """"down": the cable of a host is cut; "up"."""
        self.run("ip", "link", "set", f"port{host}", state)
        if state == "up":  # what was out of reach is asked for again at once
            self.run("ip", "neighbour", "flush", "dev", "switch")
            for name in self.names:
                with open(self.path(name)) as file:
                    self.run("nsenter", "--target", file.read(), "--net", "ip", "neighbour", "flush", "dev", "eth0")

    def sent(self, host):
        """Bytes that a host has sent to others."""
        return json.loads(self.run("ip", "-json", "-s", "link", "show", f"port{host}"))[0]["stats64"]["rx"]["bytes"]

    def processes(self, host):
        """What runs there: name and number (as seen from here, outside of it), the holder left out."""
        found = []
        with open(self.path(f"h{host}")) as file:
            holder = file.read()
        space = os.readlink(f"/proc/{holder}/ns/pid")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if pid != holder and os.readlink(f"/proc/{pid}/ns/pid") == space:
                    with open(f"/proc/{pid}/stat") as file:
                        stat = file.read()
                    if stat[stat.rindex(")") + 2] not in "ZX":
                        found.append((stat[stat.index("(") + 1:stat.rindex(")")], int(pid)))
            except OSError:
                continue  # ended meanwhile
        return found

    def left(self, seconds):
        """What still runs on any host after so many seconds; nothing as soon as nothing does."""
        end = time.monotonic() + seconds
        while True:
            left = [(name, process) for i, name in enumerate(self.names) for process in self.processes(i)]
            if not left or time.monotonic() >= end:
                return left
            time.sleep(0.1)


# As ssh: options, a host, words that are a command line together. Of the environment nothing comes along.
ENTER = """#!/bin/sh
while case $1 in -*) true ;; *) false ;; esac; do shift; done
host=$1
shift
exec env -i PATH={path} HOME="$HOME" nsenter --target "$(cat {folder}/$host)" {spaces} --wd="$PWD" -- sh -c "$*"
"""


def main():
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        sys.exit(__doc__)
    enter()
    with Hosts(int(sys.argv[1])) as hosts:
        return subprocess.run(sys.argv[2:], env=hosts.environment()).returncode


if __name__ == "__main__":
    sys.exit(main())
