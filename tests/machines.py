"""A second machine for the tests: the system of this one, booted by systemd-nspawn as a container.

Its files are those of this machine until it writes them; what it writes is in memory, and gone in
the end. It has no network but its own loopback. `ssh root@todo.example` leads to a real sshd there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import ROOT, TIMEOUT, cannot_run, need, wait_until

SHUTDOWN = 150  # seconds; systemd kills what has not stopped after 90, its user managers after 120
PROGRAMS = {"systemd-nspawn": "systemd-container", "sshd": "openssh-server", "caddy": "caddy"}
SSH_CONFIG = """
Host todo.example
    ProxyCommand nsenter --target $(cat {folder}/leader) --all {sshd} -i
    IdentityFile {folder}/key
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """Boot a machine, and shut it down in the end. `folder` is for what leads there."""
    for program, package in PROGRAMS.items():
        need(program, or_run=f"apt-get install {package}")
    _ = os.geteuid() == 0 or cannot_run("only root can boot a second machine: run this as root")
    machine = Machine(folder)
    try:
        machine.mount()
        machine.boot()
        yield machine
    finally:
        machine.remove()


class Machine:
    """A machine whose files are below `root`, as this one sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.top = Path(f"/run/todo-{folder.name}-{os.getpid()}")
        self.root = self.top / "root"
        self.environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    def mount(self) -> None:
        self.top.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.top], check=True)
        for name in ("upper", "work", "root"):
            (self.top / name).mkdir()
        layers = f"lowerdir=/,upperdir={self.top}/upper,workdir={self.top}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        for target in ("multi-user", "timers", "sockets"):  # start nothing of this machine's
            wants = self.root / f"etc/systemd/system/{target}.target.wants"
            shutil.rmtree(wants, ignore_errors=True)
        # Without a network, it takes packages from this machine: apt-get finds all installed.
        shutil.rmtree(self.root / "var/lib/apt/lists", ignore_errors=True)
        wheels = self.root / "srv/wheels"
        wheels.mkdir(parents=True)
        (self.root / "etc/pip.conf").write_text(
            "[global]\nno-index = 1\nfind-links = /srv/wheels\n"
        )
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        download += ["--requirement", str(ROOT / "requirements.txt"), "--dest", str(wheels)]
        subprocess.run(download, check=True)

    def boot(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}"]
        command += ["--keep-unit", "--register=no", "--private-network", "--console=pipe"]
        command += ["--resolv-conf=off", "--timezone=off", "--tmpfs=/root:mode=700"]
        with open(self.folder / "boot.log", "ab") as log:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")

        def is_up() -> bool:
            self.leader = children.read_text().strip()
            return self.run("systemctl is-system-running").strip() in ("running", "degraded")

        wait_until(is_up)
        (self.folder / "leader").write_text(self.leader)
        self._let_in()

    def reboot(self) -> None:
        self.run("systemctl reboot")
        self._nspawn.wait(SHUTDOWN)
        self.boot()

    def remove(self) -> None:
        os.kill(int(self.leader), signal.SIGKILL)  # the first process there: all others end, too
        self._nspawn.wait(TIMEOUT)
        subprocess.run(["umount", "--lazy", self.root, self.top], check=True)
        self.top.rmdir()

    def run(self, command: str) -> str:
        """Run a command there, without ssh; return what it prints on stdout."""
        enter = ["nsenter", "--target", self.leader, "--all", "env", "-i"]
        enter += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", command]
        done = subprocess.run(enter, capture_output=True, text=True)
        return done.stdout

    def type(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a command here, as its administrator would, in a shell whose ssh leads there."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _let_in(self) -> None:
        """Make `ssh root@todo.example` lead there."""
        sshd = need("sshd", or_run="apt-get install openssh-server")
        key = self.folder / "key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            config = SSH_CONFIG.format(folder=self.folder, sshd=sshd)
            (self.folder / "config").write_text(config)
            ssh = self.folder / "ssh"
            ssh.write_text(f'#!/bin/sh\nexec {need("ssh")} -F {self.folder}/config "$@"\n')
            ssh.chmod(0o755)
        line = key.with_suffix(".pub").read_text()
        self.run(f"mkdir -p /run/sshd /root/.ssh; echo '{line}' > /root/.ssh/authorized_keys")
