"""What the stand-in for Proxmox VE does when its API is asked: VMs, their settings, tasks and storages.

Paths, parameters, asynchronous tasks and error texts are those of the real API (8.4); whatever else is asked
is refused, so that nothing passes unseen. A VM that is started becomes a host of the bed, with the name,
address, user, keys and memory that its cloud-init settings ask for.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from data_platform_core.errors import CrmError
from home_server.testbed.bed import Bed, Host

NODE = "pve"
USER = "automation@pve"
TOKEN_ID = "ansible"
_GIB = 2**30
_IMAGE_BYTES = 3584 * 2**20  # what the disk of a cloud image measures, whatever the size of the file
_SEED_BYTES = 4 * 2**20
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_DRIVE = re.compile(r"(scsi|virtio|sata|ide)\d+")
_INTEGERS = {"cores", "sockets", "balloon", "onboot", "template", "vcpus"}
_PLUGGED_AT_ONCE = re.compile(r"(name|onboot|description|tags|startup|protection|balloon|net\d+|(scsi|virtio)\d+)")
_OPTION = re.compile(
    r"(agent|balloon|boot|cipassword|ciupgrade|ciuser|cores|cpu|description|memory|name|nameserver|onboot|ostype"
    r"|protection|scsihw|searchdomain|sockets|sshkeys|startup|tags|vga|(ipconfig|net|serial)\d+|(scsi|virtio|sata|ide)\d+)"
)
Parameters = dict[str, str]


class Refused(Exception):
    """What the API answers at once instead of doing as it was asked."""

    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors


class _Interrupted(Exception):
    """The node went down while a task ran: nothing is tidied up."""


def _wrong(**errors: str) -> Refused:
    return Refused(400, "Parameter verification failed.", errors)


@dataclass
class Storage:
    """A storage: what may lie on it, its size and what is used of it."""

    content: frozenset[str]
    total: int = 1000 * _GIB
    volumes: dict[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """Bytes that are left."""
        return self.total - sum(self.volumes.values())


@dataclass
class Vm:
    """A VM: its settings, those that wait for its next start, and the test host that it is."""

    vmid: int
    config: dict[str, Any]
    pending: dict[str, Any] = field(default_factory=dict)
    host: str | None = None
    is_on: bool = False

    @property
    def is_template(self) -> bool:
        """Whether it is a template, which cannot be started."""
        return self.config.get("template") == 1

    @property
    def name(self) -> str:
        """Its name, or what Proxmox shows where it has none."""
        return str(self.config.get("name", f"VM {self.vmid}"))


@dataclass
class _Task:
    upid: str
    kind: str
    target: str
    started: int
    exit_status: str | None = None
    log: list[str] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """Its status, as the API shows it."""
        _, node, pid, pstart, *_, user, _ = self.upid.split(":")
        about = {"upid": self.upid, "node": node, "pid": int(pid, 16), "pstart": int(pstart, 16), "user": user}
        about |= {"id": self.target, "type": self.kind, "starttime": self.started, "tokenid": TOKEN_ID}
        if self.exit_status is None:
            return about | {"status": "running"}
        return about | {"status": "stopped", "exitstatus": self.exit_status}


class ProxmoxApi:
    """One node and what its API answers. Tests look at it and disturb it by its attributes."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.token_secret = str(uuid.uuid4())
        self.vms: dict[int, Vm] = {}
        self.storages = {
            "local": Storage(frozenset({"iso", "vztmpl", "backup", "import"})),
            "local-zfs": Storage(frozenset({"images", "rootdir"})),
        }
        self.is_clone_interrupted = False
        """Whether the node goes down in the middle of the next clone."""
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.RLock()
        self._bed_lock = threading.Lock()  # the bed lays and removes hosts one after the other
        self._routes = _routes(self)

    def add_vm(self, vmid: int, **config: Any) -> Vm:
        """Put a VM there that somebody else has made."""
        self.vms[vmid] = Vm(vmid, dict(config))
        return self.vms[vmid]

    def vm(self, name: str) -> Vm:
        """The VM of a name."""
        return next(vm for vm in self.vms.values() if vm.name == name)

    def is_running(self, vm: Vm) -> bool:
        """Whether a VM is on; one whose test host was killed is not."""
        if vm.host is not None:
            return self._bed.hosts[vm.host].is_running
        return vm.is_on

    def remove_hosts(self) -> None:
        """Remove the test hosts that were made."""
        for vm in self.vms.values():
            self._remove_host(vm)

    def answer(self, method: str, path: str, parameters: Parameters, authorization: str) -> Any:
        """What the API says to one request."""
        self._check_token(authorization)
        for route_method, pattern, act in self._routes:
            found = re.fullmatch(pattern, path)
            if route_method == method and found:
                with self._lock:
                    if found.groupdict().get("node", NODE) != NODE:
                        raise Refused(500, f"hostname lookup '{found['node']}' failed - failed to get address info")
                    words = {name: value for name, value in found.groupdict().items() if name != "node"}
                    return act(parameters, **words)
        raise Refused(501, f"Method '{method} {path}' not implemented")

    def _check_token(self, authorization: str) -> None:
        found = re.fullmatch(r"PVEAPIToken=(.+)!(.+)=(.*)", authorization)
        if not found:
            raise Refused(401, "No ticket")
        user, token, secret = found.groups()
        if user != USER:
            raise Refused(401, f"no such user ('{user}')")
        if token != TOKEN_ID:
            raise Refused(401, f"no such token '{token}' for user '{user}'")
        if secret != self.token_secret:
            raise Refused(401, "invalid token value!")

    # What is there

    def _get_version(self, _: Parameters) -> Any:
        return {"version": "8.4.14", "release": "8.4", "repoid": "b502d23c55afcba1"}

    def _get_nodes(self, _: Parameters) -> Any:
        return [{"node": NODE, "id": f"node/{NODE}", "type": "node", "status": "online", "level": "", "uptime": 3600}]

    def _get_nothing(self, _: Parameters) -> Any:
        return []

    def _get_resources(self, _: Parameters) -> Any:
        return [{"id": f"qemu/{vm.vmid}", "type": "qemu", "node": NODE} | self._status(vm) for vm in self._sorted()]

    def _get_vms(self, _: Parameters) -> Any:
        return [self._status(vm) for vm in self._sorted()]

    def _get_config(self, parameters: Parameters, vmid: str) -> Any:
        vm = self._vm(vmid)
        pending = {} if parameters.get("current") == "1" else vm.pending
        shown = vm.config | pending
        return shown | {"digest": hashlib.sha1(json.dumps(shown, sort_keys=True).encode()).hexdigest()}

    def _get_status(self, _: Parameters, vmid: str) -> Any:
        status = self._status(self._vm(vmid))
        return status | {"qmpstatus": status["status"], "ha": {"managed": 0}}

    def _get_snapshots(self, _: Parameters, vmid: str) -> Any:
        self._vm(vmid)
        return [{"name": "current", "description": "You are here!", "running": 0}]

    def _get_content(self, _: Parameters, storage: str) -> Any:
        return [
            {
                "volid": volume,
                "size": size,
                "format": volume.rpartition(".")[2],
                "content": re.split("[:/]", volume)[1],
            }
            for volume, size in self._storage(storage).volumes.items()
        ]

    def _get_task_status(self, _: Parameters, upid: str) -> Any:
        return self._task(upid).shown()

    def _get_task_log(self, _: Parameters, upid: str) -> Any:
        return [{"n": number, "t": line} for number, line in enumerate(self._task(upid).log, 1)]

    # What changes something

    def _post_download(self, parameters: Parameters, storage: str) -> Any:
        _allow(parameters, r"content|filename|url|checksum|checksum-algorithm|verify-certificates")
        content, name = parameters["content"], parameters["filename"]
        if content not in self._storage(storage).content:
            raise Refused(500, f"storage '{storage}' is not configured for content-type '{content}'")
        if content == "import" and not re.fullmatch(r"[\w.-]+\.(ova|qcow2|raw|vmdk)", name):
            raise _wrong(filename="wrong file extension")

        def work(task: _Task) -> None:
            task.log.append(f"downloading {parameters['url']} to /var/lib/vz/{content}/{name}")
            with urllib.request.urlopen(parameters["url"], timeout=10) as answer:
                body = answer.read()
            if "checksum" in parameters:
                got = hashlib.new(parameters["checksum-algorithm"], body).hexdigest()
                if got != parameters["checksum"]:
                    raise CrmError(f"checksum mismatch: got '{got}' != expect '{parameters['checksum']}'")
            self._storage(storage).volumes[f"{storage}:{content}/{name}"] = len(body)

        return self._run("download", name, work)

    def _post_vm(self, parameters: Parameters) -> Any:
        vmid = int(parameters.pop("vmid"))
        self._check_options(parameters, {})
        if vmid in self.vms:
            raise Refused(500, f"unable to create VM {vmid} - VM {vmid} already exists on node '{NODE}'")

        def work(_: _Task) -> None:
            vm = Vm(vmid, {})
            self._apply(vm, parameters)
            self.vms[vmid] = vm

        return self._run("qmcreate", str(vmid), work)

    def _put_config(self, parameters: Parameters, vmid: str) -> Any:
        vm = self._unlocked(vmid)
        self._check_options(parameters, vm.config)
        self._apply(vm, parameters)

    def _post_config(self, parameters: Parameters, vmid: str) -> Any:
        vm = self._unlocked(vmid)
        self._check_options(parameters, vm.config)
        return self._run("qmconfig", vmid, lambda _: self._apply(vm, parameters))

    def _post_template(self, _: Parameters, vmid: str) -> Any:
        vm = self._unlocked(vmid)
        if self.is_running(vm):
            raise Refused(500, "you can't convert a running VM to a template")
        vm.config["template"] = 1

        def work(_: _Task) -> None:
            time.sleep(0.5)  # so that who does not wait for it is found out
            for key in _disks(vm.config):
                vm.config[key] = self._renamed(vm.config[key], f"vm-{vmid}-", f"base-{vmid}-")

        return self._run("qmtemplate", vmid, work)

    def _post_clone(self, parameters: Parameters, vmid: str) -> Any:
        _allow(parameters, "newid|name|full|storage|target|format|pool|description")
        source, new = self._unlocked(vmid), int(parameters["newid"])
        storage = parameters.get("storage", "local-zfs")
        if "images" not in self._storage(storage).content:
            raise _wrong(storage=f"storage '{storage}' does not support vm images")
        if new in self.vms:
            raise Refused(500, f"unable to create VM {new}: config file already exists")
        return self._run("qmclone", vmid, lambda task: self._clone(task, source, new, storage, parameters["name"]))

    def _clone(self, task: _Task, source: Vm, new: int, storage: str, name: str) -> None:
        vm = self.vms[new] = Vm(new, {"lock": "clone"})
        task.log.append(f"creating a clone of VM {source.vmid} with ID {new}")
        settings = {
            key: value for key, value in source.config.items() if key != "template" and not _DRIVE.fullmatch(key)
        }
        settings |= {key: _with_new_mac(value) for key, value in settings.items() if re.fullmatch(r"net\d+", key)}
        drives = {key: str(value) for key, value in source.config.items() if _DRIVE.fullmatch(key)}
        try:
            for key in sorted(drives):
                old = drives[key]
                is_seed = "media=cdrom" in old
                volume = f"{storage}:vm-{new}-{'cloudinit' if is_seed else f'disk-{len(_disks(vm.config))}'}"
                self._allocate(volume, _SEED_BYTES if is_seed else _size(old))
                vm.config |= settings | {"name": name, key: ",".join([volume, *old.split(",")[1:]])}
                if self.is_clone_interrupted:
                    self.is_clone_interrupted = False
                    raise _Interrupted
        except CrmError as error:
            del self.vms[new]
            self._free(vm)
            raise CrmError(f"clone failed: {error}") from error
        del vm.config["lock"]

    def _put_resize(self, parameters: Parameters, vmid: str) -> Any:
        _allow(parameters, "disk|size|digest|skiplock")
        vm, disk = self._unlocked(vmid), parameters["disk"]
        if disk not in vm.config:
            raise Refused(500, f"disk '{disk}' does not exist")
        present, wanted = _size(vm.config[disk]), _bytes(parameters["size"].lstrip("+"))
        wanted += present if parameters["size"].startswith("+") else 0
        if wanted < present:
            raise Refused(500, "shrinking disks is not supported")

        def work(_: _Task) -> None:
            volume = vm.config[disk].split(",")[0]
            self._allocate(volume, wanted)
            vm.config[disk] = re.sub(r"size=\w+", f"size={_shown(wanted)}", vm.config[disk])

        return self._run("resize", vmid, work)

    def _post_start(self, _: Parameters, vmid: str) -> Any:
        vm = self._unlocked(vmid)
        return self._run("qmstart", vmid, lambda _: self._start(vm))

    def _post_shutdown(self, parameters: Parameters, vmid: str) -> Any:
        _allow(parameters, "timeout|forceStop|skiplock|keepActive")
        vm = self._unlocked(vmid)
        return self._run("qmshutdown", vmid, lambda _: self._stop(vm))

    def _post_reboot(self, parameters: Parameters, vmid: str) -> Any:
        _allow(parameters, "timeout")
        vm = self._unlocked(vmid)
        if not self.is_running(vm):
            raise Refused(500, f"VM {vmid} not running")

        def work(_: _Task) -> None:
            self._stop(vm)
            self._start(vm)

        return self._run("qmreboot", vmid, work)

    def _delete_vm(self, parameters: Parameters, vmid: str) -> Any:
        _allow(parameters, "purge|destroy-unreferenced-disks|skiplock")
        vm = self._unlocked(vmid)
        if self.is_running(vm):
            raise Refused(500, f"VM {vmid} is running - destroy failed")

        def work(_: _Task) -> None:
            self._remove_host(vm)
            self._free(vm)
            del self.vms[vm.vmid]

        return self._run("qmdestroy", vmid, work)

    # Parts of these

    def _sorted(self) -> list[Vm]:
        return [vm for _, vm in sorted(self.vms.copy().items())]

    def _status(self, vm: Vm) -> dict[str, Any]:
        status = {
            "vmid": vm.vmid,
            "name": vm.name,
            "status": "running" if self.is_running(vm) else "stopped",
            "cpus": int(vm.config.get("cores", 1)),
            "maxcpu": int(vm.config.get("cores", 1)),
            "maxmem": int(vm.config.get("memory", 512)) * 2**20,
            "maxdisk": sum(_size(vm.config[key]) for key in _disks(vm.config)),
            "template": 1 if vm.is_template else 0,
        }
        return status | {key: vm.config[key] for key in ("lock", "tags") if key in vm.config}

    def _vm(self, vmid: str) -> Vm:
        if int(vmid) not in self.vms:
            raise Refused(500, f"Configuration file 'nodes/{NODE}/qemu-server/{vmid}.conf' does not exist")
        return self.vms[int(vmid)]

    def _unlocked(self, vmid: str) -> Vm:
        vm = self._vm(vmid)
        if "lock" in vm.config:
            raise Refused(500, f"VM is locked ({vm.config['lock']})")
        return vm

    def _storage(self, name: str) -> Storage:
        if name not in self.storages:
            raise Refused(500, f"storage '{name}' does not exist")
        return self.storages[name]

    def _task(self, upid: str) -> _Task:
        if upid not in self._tasks:
            raise Refused(400, "unable to parse worker upid")
        return self._tasks[upid]

    def _run(self, kind: str, target: str, work: Callable[[_Task], None]) -> str:
        """Do something behind the answer, which is the task's id."""
        now, number = int(time.time()), len(self._tasks) + 1
        upid = f"UPID:{NODE}:{number:08X}:{number:08X}:{now:08X}:{kind}:{target}:{USER}!{TOKEN_ID}:"
        task = self._tasks[upid] = _Task(upid, kind, target, now)

        def act() -> None:
            try:
                work(task)
            except _Interrupted:
                task.exit_status = "unexpected status"
            except (CrmError, OSError) as error:
                task.log.append(f"TASK ERROR: {error}")
                task.exit_status = str(error)
            else:
                task.log.append("TASK OK")
                task.exit_status = "OK"

        threading.Thread(target=act, daemon=True).start()
        return upid

    def _check_options(self, parameters: Parameters, config: dict[str, Any]) -> None:
        _allow(parameters, _OPTION.pattern)
        for key, value in parameters.items():
            if key in ("cores", "memory", "sockets") and not re.fullmatch(r"[1-9]\d*", value):
                raise _wrong(**{key: f"type check ('integer') failed - got '{value}'"})
            if key == "name" and not re.fullmatch(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?", value):
                raise _wrong(name="invalid format - value does not look like a valid DNS name")
            if key.startswith("ipconfig"):
                _check_address(key, value)
            if key == "sshkeys":
                _check_keys(value)
            if key == "boot":
                for device in value.removeprefix("order=").split(";"):
                    if device not in config | parameters:
                        raise _wrong(boot=f"invalid bootorder: device '{device}' does not exist")

    def _apply(self, vm: Vm, parameters: Parameters) -> None:
        """Set what can be set at once; on a VM that is on, the rest waits for its next start."""
        for key, value in parameters.items():
            kept: Any = int(value) if key in _INTEGERS else value
            if _DRIVE.fullmatch(key) and key not in vm.config:
                kept = self._made_drive(vm, value)
            if re.fullmatch(r"net\d+", key):
                kept = _with_mac(value)
            if self.is_running(vm) and not _PLUGGED_AT_ONCE.fullmatch(key):
                vm.pending[key] = kept
                if vm.config.get(key) == kept:
                    del vm.pending[key]
            else:
                vm.config[key] = kept

    def _made_drive(self, vm: Vm, wish: str) -> str:
        """The drive that `storage:cloudinit` and `storage:0,import-from=volume` ask for."""
        where, *options = wish.split(",")
        storage, _, what = where.partition(":")
        self._storage(storage)
        if what == "cloudinit":
            self._allocate(f"{storage}:vm-{vm.vmid}-cloudinit", _SEED_BYTES)
            return f"{storage}:vm-{vm.vmid}-cloudinit,media=cdrom"
        source = next(option.partition("=")[2] for option in options if option.startswith("import-from="))
        if source not in self._storage(source.partition(":")[0]).volumes:
            raise CrmError(f"volume '{source}' does not exist")
        volume = f"{storage}:vm-{vm.vmid}-disk-{len(_disks(vm.config))}"
        self._allocate(volume, _IMAGE_BYTES)
        kept = [option for option in options if not option.startswith("import-from=")]
        return ",".join([volume, *kept, f"size={_shown(_IMAGE_BYTES)}"])

    def _allocate(self, volume: str, size: int) -> None:
        name, _, base = volume.partition(":")
        with self._lock:
            storage = self.storages[name]
            if size - storage.volumes.get(volume, 0) > storage.available:
                raise CrmError(f"zfs error: cannot create 'rpool/data/{base}': out of space")
            storage.volumes[volume] = size

    def _renamed(self, drive: str, old: str, new: str) -> str:
        volume = drive.split(",")[0]
        volumes = self.storages[volume.partition(":")[0]].volumes
        volumes[volume.replace(old, new)] = volumes.pop(volume)
        return drive.replace(old, new)

    def _free(self, vm: Vm) -> None:
        for key, value in vm.config.items():
            if _DRIVE.fullmatch(key):
                volume = str(value).split(",")[0]
                self.storages[volume.partition(":")[0]].volumes.pop(volume, None)

    def _start(self, vm: Vm) -> None:
        if vm.is_template:
            raise CrmError("you can't start a vm if it's a template")
        if self.is_running(vm):
            raise CrmError(f"VM {vm.vmid} already running")
        vm.config |= vm.pending
        vm.pending.clear()
        vm.is_on = True
        if "ipconfig0" in vm.config:
            self._boot(vm)

    def _boot(self, vm: Vm) -> None:
        """Start the test host; as with a VM, the task ends before the host answers."""
        with self._bed_lock:
            if vm.host is None:
                address = re.search(r"ip=([^/]+)/", str(vm.config["ipconfig0"]))
                if address is None:
                    raise CrmError("a test host needs a fixed address: ipconfig0 without ip=")
                keys = urllib.parse.unquote(str(vm.config.get("sshkeys", ""))).split("\n")
                user = str(vm.config.get("ciuser", "root"))
                self._bed.lay(Host(vm.name, address[1], user, authorized_keys=tuple(filter(None, keys))))
                vm.host = vm.name
            host = self._bed.hosts[vm.host]
            host.memory_mb, host.cores = int(vm.config["memory"]), int(vm.config["cores"])

        def start() -> None:
            with suppress(CrmError):  # whether it answers is the playbook's to find out
                self._bed.start(host.name)

        threading.Thread(target=start, daemon=True).start()
        deadline = time.monotonic() + 30
        while not host.is_running:
            if time.monotonic() > deadline:
                raise CrmError("start failed: the test host does not start")
            time.sleep(0.02)

    def _stop(self, vm: Vm) -> None:
        vm.is_on = False
        if vm.host is not None:
            with self._bed_lock:
                self._bed.kill(vm.host)

    def _remove_host(self, vm: Vm) -> None:
        if vm.host is not None:
            with self._bed_lock:
                if vm.host in self._bed.hosts:
                    self._bed.remove(vm.host)
            vm.host = None


def _routes(api: ProxmoxApi) -> list[tuple[str, str, Callable[..., Any]]]:
    node = r"/nodes/(?P<node>[^/]+)"
    vm = rf"{node}/qemu/(?P<vmid>\d+)"
    storage = rf"{node}/storage/(?P<storage>[^/]+)"
    task = rf"{node}/tasks/(?P<upid>[^/]+)"
    return [
        ("GET", "/version", api._get_version),
        ("GET", "/nodes", api._get_nodes),
        ("GET", "/pools", api._get_nothing),
        ("GET", "/cluster/resources", api._get_resources),
        ("GET", f"{node}/lxc", api._get_nothing),
        ("GET", f"{node}/qemu", api._get_vms),
        ("POST", f"{node}/qemu", api._post_vm),
        ("DELETE", vm, api._delete_vm),
        ("GET", f"{vm}/config", api._get_config),
        ("PUT", f"{vm}/config", api._put_config),
        ("POST", f"{vm}/config", api._post_config),
        ("GET", f"{vm}/snapshot", api._get_snapshots),
        ("POST", f"{vm}/template", api._post_template),
        ("POST", f"{vm}/clone", api._post_clone),
        ("PUT", f"{vm}/resize", api._put_resize),
        ("GET", f"{vm}/status/current", api._get_status),
        ("POST", f"{vm}/status/start", api._post_start),
        ("POST", f"{vm}/status/shutdown", api._post_shutdown),
        ("POST", f"{vm}/status/stop", api._post_shutdown),
        ("POST", f"{vm}/status/reboot", api._post_reboot),
        ("GET", f"{storage}/content", api._get_content),
        ("POST", f"{storage}/download-url", api._post_download),
        ("GET", f"{task}/status", api._get_task_status),
        ("GET", f"{task}/log", api._get_task_log),
    ]


def _allow(parameters: Parameters, pattern: str) -> None:
    for key in parameters:
        if not re.fullmatch(pattern, key):
            text = "property is not defined in schema and the schema does not allow additional properties"
            raise _wrong(**{key: text})


def _check_address(key: str, value: str) -> None:
    words = dict(word.partition("=")[::2] for word in value.split(","))
    try:
        ipaddress.IPv4Interface(words["ip"])
        ipaddress.IPv4Address(words["gw"])
    except (KeyError, ValueError) as error:
        raise _wrong(**{key: f"invalid format - {error}"}) from error
    if "/" not in words["ip"]:
        raise _wrong(**{key: "invalid format - ip: invalid format - value does not look like a valid ipv4 network"})


def _check_keys(value: str) -> None:
    if not re.fullmatch(r"[-\w%.~]*", value):
        raise _wrong(sshkeys="invalid format - invalid urlencoded string")
    for line in filter(None, urllib.parse.unquote(value).split("\n")):
        if not re.match(r"(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/]+=*( |$)", line):
            raise Refused(500, "SSH public key validation error")


def _disks(config: dict[str, Any]) -> list[str]:
    return [key for key in config if _DRIVE.fullmatch(key) and "media=cdrom" not in str(config[key])]


def _with_mac(net: str) -> str:
    return net if re.match(r"virtio=", net) else _with_new_mac(net)


def _with_new_mac(net: str) -> str:
    mac = "BC:24:11:" + ":".join(f"{byte:02X}" for byte in uuid.uuid4().bytes[:3])
    return re.sub(r"^virtio(=[^,]+)?", f"virtio={mac}", net)


def _bytes(size: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]?)", size)
    if not found:
        raise _wrong(size=f"value '{size}' does not match the regex pattern")
    return int(found[1]) * _UNITS[found[2]]


def _size(drive: str) -> int:
    found = re.search(r"size=(\w+)", drive)
    return _bytes(found[1]) if found else 0


def _shown(size: int) -> str:
    return f"{size // _GIB}G" if size % _GIB == 0 else f"{size // 2**20}M"
