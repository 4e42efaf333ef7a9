"""One bed: a network of its own, the hosts in it, the mirror they install from.

`run_in_bed` starts a command in new mount, network and process namespaces; within, `Bed` lays hosts.
When the command ends, however it ends, the kernel ends every process of the namespace and with the
last one takes back its mounts and its network; what is left, a folder and empty cgroups, is removed.
"""

from __future__ import annotations

import fcntl
import functools
import http.server
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings
from home_server.places import ROOT
from home_server.steps import tracked
from home_server.testbed.archives import KAFKA_VERSIONS, jmx_exporter, kafka_archive
from home_server.testbed.base import image, mirror

GATEWAY = "192.0.2.1"
"""The machine's own address in the bed, in the network of the example inventory (RFC 5737, for documentation)."""
_BRIDGE = "crmbed"
_MIRROR_PORT = 8081
_CGROUPS = Path("/sys/fs/cgroup")
_AUTHORITY = ROOT / "ansible" / ".pki"
_EXAMPLE = ROOT / "ansible" / "inventories" / "home"


def run_in_bed(
    settings: Settings, command: Sequence[str], environment: dict[str, str], output: IO[bytes] | None = None
) -> int:
    """Run a command where it may lay hosts; its exit code. Everything it made is gone afterwards.

    Its output goes where ours does, or into a file.
    """
    beds = settings.home / "beds"
    beds.mkdir(parents=True, exist_ok=True)
    for folder in beds.iterdir():
        _clear(folder)
    folder = Path(tempfile.mkdtemp(prefix="bed-", dir=beds))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # the namespaces end with `unshare`, and `unshare` with this process, even when that is killed
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        process = subprocess.Popen(
            [*words, "--mount-proc", *command], env=environment | {"CRM_BED": str(folder)}, stdout=output, stderr=output
        )
        try:
            with tracked(process):
                return _wait(process)
        finally:
            process.kill()
            process.wait()
            lock.close()
            _clear(folder)


def _wait(process: subprocess.Popen[Any]) -> int:
    """Wait for the command, which is told of a Ctrl-C itself and cleans up before it ends."""
    for _ in range(3):
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
    raise KeyboardInterrupt


def _clear(folder: Path) -> None:
    """Remove what a bed left, unless it is in use."""
    try:
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    for hierarchy in _hierarchies():
        for group in [*(hierarchy / folder.name).glob("*"), hierarchy / folder.name]:
            if group.is_dir():
                _remove_cgroup(group)
    shutil.rmtree(folder, ignore_errors=True)


def _hierarchies() -> list[Path]:
    """Where a host needs a control group of its own: three hierarchies of version 1, or the one of version 2."""
    found = [_CGROUPS / name for name in ("systemd", "unified", "memory") if (_CGROUPS / name).is_dir()]
    return found or [_CGROUPS]


def _remove_cgroup(group: Path) -> None:
    """Remove a control group and those within it, deepest first; its last processes may still be ending."""
    deadline = time.monotonic() + 60
    for path, _, _ in sorted(os.walk(group), key=lambda found: -len(found[0])):
        while True:
            try:
                Path(path).rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.05)


@dataclass
class Host:
    """A test host: what it was asked to be, and how it is reached."""

    name: str
    address: str
    user: str = "crm"
    memory_mb: int | None = None
    cores: int | None = None
    authorized_keys: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def is_running(self) -> bool:
        """Whether its machine is on."""
        return self.process is not None and self.process.poll() is None


class Bed:
    """Lays, starts, kills and empties test hosts. Only within `run_in_bed`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if "CRM_BED" not in os.environ:
            raise CrmError("not in a test bed: start it by `crm testbed -- <command>`")
        self.folder = Path(os.environ["CRM_BED"])
        self.hosts: dict[str, Host] = {}
        self.added: dict[str, tuple[str, dict[str, Any]]] = {}
        """Machines that the example inventory does not have: group and variables by name."""
        self.key = self.folder / "ssh_key"
        self.authority = self.folder / "pki"
        """Where the playbooks keep the certificate authority of this bed."""
        self._logs: list[IO[bytes]] = []
        if not self.key.exists():
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testbed", "-f", str(self.key))
            _run("ip", "link", "set", "lo", "up")
            _run("ip", "link", "add", _BRIDGE, "type", "bridge")
            _run("ip", "address", "add", f"{GATEWAY}/24", "dev", _BRIDGE)
            _run("ip", "link", "set", _BRIDGE, "up")
            self._hide_authority()
        self._serve_mirror()

    @property
    def public_key(self) -> str:
        """The key that the playbooks come with."""
        return self.key.with_suffix(".pub").read_text().strip()

    def lay(self, host: Host) -> Host:
        """Make an empty host, as a cloud image is at its first start; it is not started."""
        if host.name in self.hosts:
            raise CrmError(f"the test bed has a host {host.name} already")
        self.hosts[host.name] = host
        self._personalise(host)
        return host

    def start(self, name: str, within_seconds: float = 60) -> Host:
        """Start a host and wait until it answers ssh."""
        host = self.hosts[name]
        if host.is_running:
            return host
        _run("ip", "link", "set", _BRIDGE, "up")
        groups = [hierarchy / self.folder.name / name for hierarchy in _hierarchies()]
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
            if group.parts[4] == "memory" and host.memory_mb:
                (group / "memory.limit_in_bytes").write_text(str(host.memory_mb * 2**20))
        enter = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
        nspawn = (
            "exec systemd-nspawn --quiet --register=no --keep-unit --boot --link-journal=no --resolv-conf=off "
            f"--timezone=off --console=pipe -D {self.root(name)} -M {name} --network-bridge={_BRIDGE}"
        )
        log = (self.folder / name / "console.log").open("ab")
        self._logs.append(log)
        host.process = subprocess.Popen(
            ["sh", "-c", f"{enter}; {nspawn}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        deadline = time.monotonic() + within_seconds
        while not self._answers(host):
            if not host.is_running or time.monotonic() > deadline:
                tail = (self.folder / name / "console.log").read_text(errors="replace")[-2000:]
                raise CrmError(f"the test host {name} does not answer ssh:\n{tail}")
            time.sleep(0.1)
        return host

    def kill(self, name: str) -> None:
        """Take a host's power away: every process of it is killed at once, its disk stays as it is."""
        host = self.hosts[name]
        if host.process is None:
            return
        group = _hierarchies()[0] / self.folder.name / name
        deadline = time.monotonic() + 20
        while host.process.poll() is None or _processes(group):
            for pid in _processes(group):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            host.process.poll()
            if time.monotonic() > deadline:
                raise CrmError(f"the test host {name} cannot be killed")
            time.sleep(0.02)
        # the kernel takes the host's end of the cable back in its own time, and a new host would find it there
        subprocess.run(["ip", "link", "delete", f"vb-{name}"], capture_output=True)
        host.process = None

    def empty(self, name: str) -> Host:
        """Replace a host by an empty one of the same name and address."""
        self.remove(name, keep=True)
        self._personalise(self.hosts[name])
        return self.hosts[name]

    def remove(self, name: str, keep: bool = False) -> None:
        """Kill a host and delete its disk."""
        self.kill(name)
        _run("umount", str(self.root(name)))
        shutil.rmtree(self.folder / name)
        if not keep:
            del self.hosts[name]

    def root(self, name: str) -> Path:
        """A host's root file system."""
        return self.folder / name / "root"

    def ssh(self, name: str, command: str, check: bool = True, timeout: float = 120) -> str:
        """What a command printed on a host, run as root."""
        host = self.hosts[name]
        words = [*self._ssh(host), f"{host.user}@{host.address}", f"sudo sh -c {_quoted(command)}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise CrmError(f"{name}: {command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """What points Ansible at the bed: the example inventory, and over it what differs in a bed."""
        variables = {
            "ansible_user": "crm",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "common_apt_sources": [f"deb [trusted=yes] http://{GATEWAY}:{_MIRROR_PORT} ./"],
            "kafka_archive_base": f"file://{kafka_archive(self._settings, KAFKA_VERSIONS[0]).parent}",
            "kafka_archive_checksums": {},
            "kafka_heap": "256m",
            "kafka_java_options": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "kafka_quorum_heap": "128m",
            "kafka_jmx_exporter_archive": f"file://{jmx_exporter(self._settings)}",
            "minio_binary": str(self._settings.home / "bin" / "minio"),
            "common_memory_mb": 0,  # a test host shows the memory of the whole machine
            "proxmox_vm_known_hosts": str(self.folder / "known_hosts"),
        }
        file = self.folder / "inventory.json"
        names = [line.split(":")[0].strip() for line in _EXAMPLE.joinpath("hosts.yml").read_text().splitlines()]
        hosts = {name: variables for name in names if name.rpartition("-")[2].isdigit()}
        added: dict[str, Any] = {group: {"hosts": {}} for group, _ in self.added.values()}
        for name, (group, more) in self.added.items():
            added[group]["hosts"][name] = variables | more
        everything = {"vars": variables | self._secrets(), "hosts": hosts, "children": added}
        file.write_text(json.dumps({"all": everything}, indent=2))
        return {
            "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"),
            "ANSIBLE_INVENTORY": f"{_EXAMPLE},{file}",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            # two beds have hosts of the same addresses: a shared connection would lead into the other
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
        }

    def secret(self, name: str) -> str:
        """A secret of the bed, by its name in the vault."""
        return self._secrets()[name]

    def change_secret(self, name: str) -> None:
        """Give a secret another value, as somebody does who rotates it."""
        values = self._secrets() | {name: secrets.token_urlsafe(18)}
        (self.folder / "secrets.json").write_text(json.dumps(values))

    def _secrets(self) -> dict[str, str]:
        """Every secret that the example inventory names, with a value of this bed's own."""
        example = (ROOT / "ansible" / "vault.example.yml").read_text()
        names = [line.split(":")[0] for line in example.splitlines() if line.startswith("vault_")]
        file = self.folder / "secrets.json"
        if not file.exists():
            file.write_text(json.dumps({name: secrets.token_urlsafe(18) for name in names}))
        return dict(json.loads(file.read_text()))

    def close(self) -> None:
        """Kill all hosts, so that the end of the bed need not wait for them."""
        for name in list(self.hosts):
            self.remove(name)
        for log in self._logs:
            log.close()

    def _answers(self, host: Host) -> bool:
        words = [*self._ssh(host), f"{host.user}@{host.address}", "true"]
        return subprocess.run(words, capture_output=True).returncode == 0

    def _ssh(self, host: Host) -> list[str]:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=1")
        return ["ssh", "-i", str(self.key), *(word for option in options for word in ("-o", option))]

    def _personalise(self, host: Host) -> None:
        """What cloud-init does at the first start: name, address, user and keys."""
        folder = self.folder / host.name
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={image(self._settings)},upperdir={folder}/upper,workdir={folder}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root(host.name)))
        root = self.root(host.name)
        _write(root, "etc/machine-id", f"{uuid.uuid4().hex}\n")
        _write(root, "etc/hostname", f"{host.name}\n")
        _write(root, "etc/hosts", f"127.0.0.1 localhost\n{host.address} {host.name}\n")
        network = f"[Match]\nName=host0\n[Network]\nAddress={host.address}/24\nGateway={GATEWAY}\n"
        _write(root, "etc/systemd/network/10-host0.network", network)
        _write(root, "etc/resolv.conf", "")
        wants = root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
        _run("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", host.user)
        _write(root, f"etc/sudoers.d/{host.user}", f"{host.user} ALL=(ALL) NOPASSWD:ALL\n", 0o440)
        keys = "".join(f"{key}\n" for key in (host.authorized_keys or (self.public_key,)))
        _write(root, f"home/{host.user}/.ssh/authorized_keys", keys, 0o600)
        _run("chroot", str(root), "chown", "-R", f"{host.user}:{host.user}", f"/home/{host.user}/.ssh")
        # one kind of key, the one that is asked for: three take seconds, of which most is RSA's
        _run("chroot", str(root), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key")

    def _hide_authority(self) -> None:
        """Lay the bed's own folder over that of the control node's authority, seen within the bed alone."""
        for folder in (self.authority, _AUTHORITY):
            folder.mkdir(mode=0o700, exist_ok=True)
        _run("mount", "--bind", str(self.authority), str(_AUTHORITY))

    def _serve_mirror(self) -> None:
        handler = functools.partial(_Quiet, directory=str(mirror(self._settings)))
        server = http.server.ThreadingHTTPServer((GATEWAY, _MIRROR_PORT), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


@contextmanager
def laid_bed(settings: Settings) -> Any:
    """A bed that is closed at the end of the block."""
    bed = Bed(settings)
    try:
        yield bed
    finally:
        bed.close()


def _processes(group: Path) -> list[int]:
    pids = []
    for path, _, _ in os.walk(group):
        pids += [int(word) for word in (Path(path) / "cgroup.procs").read_text().split()]
    return [pid for pid in pids if pid]


def _write(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise CrmError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
