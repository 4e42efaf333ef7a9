"""Components as processes: started detached, found again after any crash, stopped whole.

A component writes its own pid into a file and then becomes the program (`sh -c 'echo $$ > pid; exec …'`),
so that no crash of the starter, at any instant, leaves a process that cannot be found.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from data_platform_core.errors import ComponentFailed
from home_server.places import log_file
from home_server.steps import cancelled, tail_of

_CLOCK_SLACK_SECONDS = 5.0


@dataclass(frozen=True)
class Component:
    """A program of the stack: how to start it, and how to know that it answers."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    is_ready: Callable[[], bool]
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = ""
    prepare: Callable[[], None] = lambda: None
    ready_within_seconds: float = 300.0


class Processes:
    """The processes of one stack."""

    def __init__(self, stack: Path) -> None:
        self._stack = stack

    def log(self, name: str) -> Path:
        """The log of a component."""
        return log_file(self._stack, name)

    def find(self, name: str) -> psutil.Process | None:
        """The component's process, if it lives."""
        file = self._pid_file(name)
        try:
            process = psutil.Process(int(file.read_text()))
            # a pid that was given to another process since is younger than the file
            is_ours = process.create_time() < file.stat().st_mtime + _CLOCK_SLACK_SECONDS
            return process if is_ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def has_died(self, name: str) -> bool:
        """Whether it was started, not stopped since, and does not live."""
        try:
            was_started = self._pid_file(name).stat().st_size > 0  # empty for the instant in which it is written
        except OSError:
            return False
        return was_started and self.find(name) is None

    def check_alive(self, names: Iterable[str]) -> None:
        """Fail where a component has died.

        Raises:
            ComponentFailed: names it and holds its last words.
        """
        for name in names:
            if self.has_died(name):
                raise ComponentFailed(f"{name} died; {tail_of(self.log(name))}")

    def start(self, component: Component) -> str:
        """Start a component, unless it lives, and wait until it is ready.

        Raises:
            ComponentFailed: a port of it is taken, it died, or it is not ready in time.
        """
        process = self.find(component.name)
        if process is None:
            self._sweep(component.name)  # and no more: one that then cannot be started has still died, and not stopped
            self._check_ports(component)
            component.prepare()
            self._launch(component)
        self._wait_until_ready(component)
        return component.address

    def stop(self, name: str, stop_signal: signal.Signals = signal.SIGTERM, within_seconds: float = 30.0) -> bool:
        """Stop a component and all that it started; True where it lived, or had left something."""
        found = self.end(name, stop_signal, within_seconds)
        self._pid_file(name).unlink(missing_ok=True)
        return found

    def end(self, name: str, stop_signal: signal.Signals = signal.SIGTERM, within_seconds: float = 30.0) -> bool:
        """End a component that is to be started again: until then it counts as one that died."""
        process = self.find(name)
        if process is None:
            return self._sweep(name)
        family = self._family(process)
        process.send_signal(stop_signal)
        left = _wait([process], within_seconds)
        _kill(_wait([*left, *family], 3.0))
        return True

    def _sweep(self, name: str) -> bool:
        """Kill what a dead component left in its session; True where there was something.

        The kernel gives no process the number of a session that still has members, so that they are ours.
        """
        left: list[psutil.Process] = []
        with suppress(OSError, ValueError):
            leader = int(self._pid_file(name).read_text())
            left = _session(leader) if not psutil.pid_exists(leader) else []
        _kill(left)
        return bool(left)

    def _family(self, process: psutil.Process) -> list[psutil.Process]:
        """What a process started, however it detached itself within its session."""
        found = {child.pid: child for child in process.children(recursive=True)}
        found |= {member.pid: member for member in _session(process.pid) if member.pid != process.pid}
        return list(found.values())

    def _launch(self, component: Component) -> None:
        for folder in ("logs", "run", "data"):
            (self._stack / folder).mkdir(parents=True, exist_ok=True)
        if cancelled.is_set():
            raise ComponentFailed(f"{component.name}: given up")
        with self.log(component.name).open("ab") as log:
            subprocess.Popen(
                ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(self._pid_file(component.name)), *component.command],
                env=dict(component.env),
                cwd=self._stack,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_ready(self, component: Component) -> None:
        deadline = time.monotonic() + component.ready_within_seconds
        born = time.monotonic()
        while not component.is_ready():
            if cancelled.is_set():
                raise ComponentFailed(f"{component.name}: given up")
            is_gone = self.find(component.name) is None and time.monotonic() - born > 1.0
            if is_gone:
                raise ComponentFailed(f"{component.name} died while starting; {tail_of(self.log(component.name))}")
            if time.monotonic() > deadline:
                raise ComponentFailed(
                    f"{component.name} does not answer after {component.ready_within_seconds:.0f} s; "
                    f"{tail_of(self.log(component.name))}"
                )
            time.sleep(0.2)

    def _check_ports(self, component: Component) -> None:
        for what, port in component.ports.items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise ComponentFailed(
                        f"port {port}, which {what} needs, is taken{_holder(port)}: "
                        "end that, or move the whole stack with another CRM_PORT_OFFSET"
                    ) from None

    def _pid_file(self, name: str) -> Path:
        return self._stack / "run" / f"{name}.pid"


def _session(leader: int) -> list[psutil.Process]:
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(processes, 10.0)


def _wait(processes: list[psutil.Process], within_seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended; returns those that have not. A zombie has: its parent may never look."""
    deadline = time.monotonic() + within_seconds
    while (left := [process for process in processes if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
