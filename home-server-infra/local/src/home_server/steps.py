"""A plan of named steps: what can run side by side does, each step shows its seconds."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_platform_core.errors import CrmError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


class Failed(str):
    """A step's word on what it did, where that was a failure which does not end the plan."""


@dataclass(frozen=True)
class Step:
    """Something to be done once the steps it needs are done."""

    name: str
    run: Callable[[], str | None]
    needs: tuple[str, ...] = ()


def with_needs(steps: Sequence[Step], wanted: Iterable[str]) -> list[Step]:
    """Of a plan, the steps that are wanted, and those that these need, and those in turn."""
    found: set[str] = set()
    left = list(wanted)
    while left:
        name = left.pop()
        found.add(name)
        left += [need for step in steps if step.name == name for need in step.needs if need not in found]
    return [step for step in steps if step.name in found]


def run_steps(steps: Sequence[Step], console: Console, watch: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Run a plan; returns each step's seconds.

    A step may return a word on what it did, which is shown; a `Failed` one is shown as such and ends nothing.
    `watch` is called while steps run. After a failure, its own or of a step, nothing new is started, running commands
    are ended, and the first error is raised.
    """
    names = {step.name for step in steps}
    waiting = list(steps)
    seconds: dict[str, float] = {}
    running: dict[Future[tuple[float, str | None]], Step] = {}
    try:
        with _Board(console) as board, ThreadPoolExecutor(max_workers=16) as pool:
            try:
                while waiting or running:
                    for step in [s for s in waiting if all(n in seconds or n not in names for n in s.needs)]:
                        waiting.remove(step)
                        board.started(step.name)
                        running[pool.submit(_timed, step)] = step
                    done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                    if not done:
                        watch()
                    for future in done:
                        step = running.pop(future)
                        seconds[step.name], word = future.result()
                        board.finished(step.name, seconds[step.name], word)
            except BaseException:
                cancelled.set()
                _end_commands()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        cancelled.clear()  # every step has ended by now
    return seconds


def _timed(step: Step) -> tuple[float, str | None]:
    started = time.monotonic()
    word = step.run()
    return time.monotonic() - started, word


class _Board:
    """Shows steps: moving on a terminal, as plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = console
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Board:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, name: str) -> None:
        self._tasks[name] = self._progress.add_task(name)

    def finished(self, name: str, seconds: float, word: str | None) -> None:
        self._progress.remove_task(self._tasks[name])
        mark = "[red]✗[/red]" if isinstance(word, Failed) else "[green]✓[/green]"
        self._console.print(f"  {mark} {name:<24} {seconds:6.1f} s  [dim]{word or ''}[/dim]", highlight=False)


_commands: set[subprocess.Popen[Any]] = set()
_lock = threading.Lock()
cancelled = threading.Event()
"""Set when the plan is given up: what waits within a step ends."""


@contextmanager
def tracked(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Have a step's process ended when the plan is given up."""
    with _lock:
        _commands.add(process)
    try:
        yield
    finally:
        with _lock:
            _commands.discard(process)


def run_command(command: Sequence[str], log: Path, env: dict[str, str], what: str) -> None:
    """Run a command of a step, its output into a log.

    Raises:
        CrmError: it failed; the message holds its last lines and names the log.
    """
    if cancelled.is_set():
        raise CrmError(f"{what}: given up")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)
        with tracked(process):
            code = process.wait()
    if code:
        raise CrmError(f"{what} failed (exit code {code}); {tail_of(log)}")


def _end_commands() -> None:
    with _lock:
        for process in _commands:
            process.terminate()


def tail_of(log: Path, lines: int = 8) -> str:
    """The last lines of a log, with its name and, where one is known, the mend."""
    text = log.read_text(errors="replace") if log.exists() else ""
    last = "\n  ".join(_words_of(line) for line in text.splitlines()[-lines:])
    mend = "mend what it says, if it says what, and"
    if "No space left on device" in text[-20_000:]:
        mend = "the disk is full: free some space, and"
    return f"see {log}:\n  {last}\n{mend} run the same command again: it goes on where it stopped"


def _words_of(line: str) -> str:
    """A line for people: of one that is JSON, its level and message."""
    try:
        words = json.loads(line)
        return f"{words['level']}: {words['message']}"
    except (ValueError, TypeError, KeyError):
        return line
