"""`crm test`: the parts of the tests side by side, each in the environment it is about, on a stack of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from data_platform_core.errors import CrmError, UsageError
from data_platform_core.settings import USUAL_PORTS, Settings
from home_server import stack
from home_server.components import archive_classes
from home_server.credentials import ensure_credentials
from home_server.parts import FAST, PARTS, STORE, Part, changed_files, parts_concerned, parts_named
from home_server.places import ROOT, env_bin
from home_server.steps import Failed, Step, cancelled, run_steps, tracked, with_needs
from home_server.testbed.base import base_steps, why_not
from home_server.testbed.bed import run_in_bed
from home_server.toolchain import setup_steps, write_platform_commands

_ON_EVERY_CORE = ("-n", "logical", "--dist", "worksteal")
_PARTS_AT_ONCE = 2
"""On two cores: of four at once each was late for what it waits for, and none was done sooner."""
_SLOWEST_SHOWN = 12
_BUDGETS_AT_MOST = 6
"""A part that takes so many times its budget hangs."""
_NOTHING_COLLECTED = 5
"""The exit code of a pytest that found no test, as of a part in which an expression chose none."""


class TestsFailed(CrmError):
    """At least one test failed."""


@dataclass(frozen=True)
class _Result:
    """What became of a part."""

    part: Part
    passes: bool
    seconds: float
    tests: int = 0
    skipped: int = 0
    slowest: tuple[tuple[float, str], ...] = ()
    not_run: str = ""
    """Why it was not run, where it could not be."""


def run_tests(settings: Settings, console: Console, words: Sequence[str], fast: bool, changed: bool) -> None:
    """Run the parts that are named first in `words`, all of them by default; what follows them is for pytest.

    Where only what changed is to be tested, one of the words may be the revision since which: HEAD by default. Set-up
    and parts are one plan: a part begins as soon as what it needs is installed. One part alone has the terminal.

    Raises:
        TestsFailed: names the parts in which a test failed.
        UsageError: there is no such part or revision.
    """
    known = {part.name for part in PARTS}
    names, arguments = _split(words, known)
    if changed:
        revision = next((name for name in names if name not in known), "HEAD")
        concerned = parts_concerned(changed_files(revision))
        names = [name for name in names if name != revision]
        console.print(f"changed since {revision}: {', '.join(part.name for part in concerned) or 'nothing with tests'}")
    else:
        concerned = PARTS
    chosen = [part for part in parts_named(names) if part in concerned and (part.name in FAST or not fast)]
    parts = _owners(chosen, arguments)
    if not parts:
        return
    write_platform_commands(settings)
    _clear_left_over_stacks(settings, console)
    begun = time.monotonic()
    if len(parts) == 1:
        run_steps(_set_up(settings, parts), console)
        results = [_run_part(settings, parts[0], console, arguments, None)]
    else:
        results = _side_by_side(settings, console, parts, arguments)
    console.print(_summary(results, time.monotonic() - begun))
    if failed := [result.part.name for result in results if not result.passes]:
        raise TestsFailed(f"tests failed in {', '.join(failed)}; `crm test {failed[0]}` runs that part alone")
    if not any(result.tests or result.not_run for result in results):
        raise UsageError(f"no test of {', '.join(part.name for part in parts)} is chosen by {' '.join(arguments)}")


def _owners(parts: Sequence[Part], arguments: Sequence[str]) -> list[Part]:
    """The parts whose files are named to pytest; all of them where none is."""
    files = [word.partition("::")[0] for word in arguments if _is_file(word)]
    return [part for part in parts if not files or any(part.owns(file) for file in files)]


def _is_file(word: str) -> bool:
    return not word.startswith("-") and word.partition("::")[0].endswith(".py")


def _split(words: Sequence[str], known: set[str]) -> tuple[list[str], list[str]]:
    """Names of parts, and pytest's words: from the first option, file or test on."""

    def is_pytests(word: str) -> bool:
        return word not in known and (word.startswith("-") or "::" in word or Path(word).exists())

    names = list(takewhile(lambda word: not is_pytests(word), words))
    return names, list(words[len(names) :])


def run_drills(settings: Settings, console: Console, arguments: Sequence[str]) -> None:
    """Run the drills of the way of the data, and the lake's tests on the other store; each on a stack of its own.

    Raises:
        TestsFailed: says which failed.
    """
    stack.set_up(settings, console)
    _clear_left_over_stacks(settings, console)
    failed = []
    for part in _owners([part for part in PARTS if part.has_drills], arguments):
        result = _run_part(settings, part, console, ("-m", "drill", *arguments), None, drill=True)
        failed += [] if result.passes else [f"the drills of {part.name}"]
    if not arguments:  # which choose among the drills
        other = settings.model_copy(update={"s3_store": "minio" if settings.s3_store == "seaweedfs" else "seaweedfs"})
        stack.set_up(other, console)
        console.rule(f"the lake on {other.s3_store}", align="left")
        result = _run_part(other, parts_named(["lake"])[0], console, (), None)
        failed += [] if result.passes else [f"the lake on {other.s3_store}"]
    if failed:
        raise TestsFailed(f"{' and '.join(failed)} failed")


def run_infra_tests(settings: Settings, console: Console, drill: bool, arguments: Sequence[str]) -> None:
    """Run the tests of the playbooks on a test bed; skipped, with the reason, where there can be none.

    Raises:
        TestsFailed: at least one failed.
    """
    (infra,) = parts_named(["infra"])
    run_steps(_set_up(settings, [infra]), console)
    result = _run_part(settings, infra, console, (*(("-m", "drill") if drill else ()), *arguments), None)
    if not result.passes:
        raise TestsFailed(f"tests failed in {infra.paths[0]}")


# --- parts ------------------------------------------------------------------------------------


def _needs(settings: Settings, part: Part) -> tuple[str, ...]:
    return tuple(f"set up {settings.s3_store}" if need == STORE else need for need in part.needs)


def _set_up(settings: Settings, parts: Sequence[Part]) -> list[Step]:
    """What must be installed before these parts can run, and no more."""
    on_hosts = any(part.on_test_hosts for part in parts) and why_not() is None
    classes = Step("set up classes", lambda: _archive_classes(settings), ("set up jars", "set up java"))
    steps = [*setup_steps(settings), classes, *(base_steps(settings) if on_hosts else [])]
    return with_needs(steps, [need for part in parts for need in _needs(settings, part)])


def _archive_classes(settings: Settings) -> str | None:
    """Have the archive of Spark's classes before the stacks, both of which would wait for it."""
    with tempfile.TemporaryDirectory(dir=settings.home) as folder:
        credentials = Path(folder) / "credentials.env"
        ensure_credentials(credentials, {}, _NO_OFFSET)
        of_no_stack = Settings(_env_file=credentials, home=settings.home, stack=Path(folder))  # type: ignore[call-arg]
        return archive_classes(of_no_stack)


def _side_by_side(
    settings: Settings, console: Console, parts: Sequence[Part], arguments: Sequence[str]
) -> list[_Result]:
    """Run parts beside each other; what each printed is printed whole, as it ends."""
    turn = threading.Semaphore(_PARTS_AT_ONCE)
    printing = threading.Lock()
    results: dict[str, _Result] = {}

    def run(part: Part) -> str:
        log = settings.home / "logs" / f"test-{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output, turn:
            if cancelled.is_set():  # while it waited for its turn
                raise CrmError(f"{part.name}: given up")
            result = _run_part(settings, part, console, arguments, output)
        results[part.name] = result
        with printing:
            console.rule(f"{part.name}: {part.what}", align="left")
            console.out(log.read_text(errors="replace"), highlight=False)
        word = result.not_run or f"{result.tests} tests"
        return word if result.passes else Failed(f"{word}, some failed")

    steps = [Step(part.name, lambda part=part: run(part), _needs(settings, part)) for part in parts]  # type: ignore[misc]
    run_steps([*_set_up(settings, parts), *steps], console)
    return [results[part.name] for part in parts]


def _run_part(
    settings: Settings,
    part: Part,
    console: Console,
    arguments: Sequence[str],
    output: IO[bytes] | None,
    drill: bool = False,
) -> _Result:
    """Run a part; its output goes to the terminal or into a file."""
    if part.on_test_hosts and (reason := why_not()):
        console.print(f"[yellow]{part.name} is skipped:[/yellow] {reason}")
        return _Result(part, True, 0.0, not_run=f"skipped: {reason}")
    report = settings.home / "logs" / f"test-{part.name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    named = any(_is_file(word) for word in arguments)  # then these files, and no others
    paths = [path for path in part.paths if not named or path.startswith("--")]
    workers = _ON_EVERY_CORE if part.on_every_core and not arguments else ()  # which may ask for --pdb
    python = env_bin(settings, part.environment, "python")
    command = [python, "-m", "pytest", *paths, *workers, f"--junitxml={report}", *arguments]
    begun = time.monotonic()
    if part.on_test_hosts:
        code = run_in_bed(settings, command, os.environ | {"CRM_HOME": str(settings.home)}, output)
    else:
        with _own_stack(settings, console, has_ports=part.stack or drill, as_users_run_it=drill) as environment:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
            with tracked(process):
                code = _wait(process, None if arguments else _BUDGETS_AT_MOST * part.budget_seconds)
    passes = code == 0 or (code == _NOTHING_COLLECTED and bool(arguments))
    return _with_figures(part, passes, time.monotonic() - begun, report)


def _wait(process: subprocess.Popen[bytes], within_seconds: float | None) -> int:
    """Wait for pytest, which is ended where it hangs; where we are to end, it ends first."""
    try:
        return process.wait(within_seconds)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        if isinstance(error, subprocess.TimeoutExpired):
            return process.wait()
        raise


def _with_figures(part: Part, passes: bool, seconds: float, report: Path) -> _Result:
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):  # of a pytest that was killed
        return _Result(part, passes, seconds)
    slowest = sorted(((float(case.get("time", 0)), str(case.get("name"))) for case in cases), reverse=True)
    skipped = sum(case.find("skipped") is not None for case in cases)
    return _Result(part, passes, seconds, len(cases), skipped, tuple(slowest[:_SLOWEST_SHOWN]))


def _summary(results: Sequence[_Result], seconds: float) -> Table:
    """Parts, tests, seconds and budgets, and the slowest tests: where the next one that takes too long is seen."""
    table = Table("part", box=None, title="", padding=(0, 2, 0, 0))
    for column in ("tests", "skipped", "seconds", "budget"):
        table.add_column(column, justify="right")
    table.add_column("")
    for one in results:
        verdict = one.not_run or ("[green]passed[/green]" if one.passes else "[red]failed[/red]")
        late = " [yellow]over its budget[/yellow]" if one.seconds > one.part.budget_seconds else ""
        figures = (one.tests, one.skipped, f"{one.seconds:.0f}", one.part.budget_seconds)
        table.add_row(one.part.name, *map(str, figures), verdict + late)
    table.add_row("in all", str(sum(r.tests for r in results)), "", f"{seconds:.0f}", "", "with the set-up")
    slowest = sorted(((s, name, one.part.name) for one in results for s, name in one.slowest), reverse=True)
    table.add_row("")
    for taken, name, part in slowest[:_SLOWEST_SHOWN]:
        table.add_row(part, "", "", f"{taken:.0f}", "", f"[dim]{name}[/dim]")
    return table


# --- stacks of their own ----------------------------------------------------------------------


@contextmanager
def _own_stack(
    settings: Settings, console: Console, has_ports: bool = True, as_users_run_it: bool = False
) -> Iterator[dict[str, str]]:
    """The environment of a stack of the tests' own: own ports, own folder; gone afterwards, come what may."""
    with _port_offset() if has_ports else nullcontext(_NO_OFFSET) as offset:
        made = Path(tempfile.mkdtemp(prefix="new-", dir=settings.home))
        folder = made.with_name(made.name.replace("new-", "test-", 1))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "AIRFLOW", "SPARK"))}
        environment = kept | {
            "CRM_HOME": str(settings.home),
            "CRM_STACK": str(folder),
            "CRM_PORT_OFFSET": str(offset),
            "CRM_WORLD_CUSTOMERS": "2000",
            "CRM_WORLD_PRODUCTS": "40",
            "CRM_WORLD_EVENTS_PER_DAY": "3000",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "CRM_S3_STORE": settings.s3_store,
        }
        if not as_users_run_it:
            environment |= _QUICK
        with (made / "tests.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made.rename(folder)  # held before another run can take it for left over
            try:
                yield environment
            finally:
                _reset(settings, folder, environment, console)


_QUICK = {
    "CRM_STREAM_MASTERS_TRIGGER_SECONDS": "2",  # what is sent has landed once the masters have
    # a JVM that lives for a minute spends half of its time on compiling what it runs a few times
    "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
}
"""What makes tests quick and measures false: drills go without."""


def _reset(settings: Settings, folder: Path, environment: dict[str, str], console: Console) -> None:
    if (folder / "credentials.env").exists():
        command = [str(settings.home / "bin" / "crm"), "reset", "--yes"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            console.print(f"[red]the tests' stack in {folder} could not be removed:[/red] {done.stderr}")
    shutil.rmtree(folder, ignore_errors=True)


def _clear_left_over_stacks(settings: Settings, console: Console) -> None:
    """Stop and remove what an earlier run left that was itself killed."""
    for folder in settings.home.glob("test-*"):
        if not _is_held(folder / "tests.lock"):
            _reset(settings, folder, os.environ | {"CRM_HOME": str(settings.home), "CRM_STACK": str(folder)}, console)


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


_OFFSETS = range(20_000, 22_940, 147)
"""No port of a stack, nor of those that its tests start 300 and 600 ports further, is another offset's."""
_NO_OFFSET = 19_000
"""Of parts whose tests start nothing."""
_MARKER_PORT = 4000
"""Held, at its offset, by whoever has the offset: two runs may look for one at once."""


@contextmanager
def _port_offset() -> Iterator[int]:
    """A port offset at which no port of a stack is taken, and that is nobody else's meanwhile."""
    for offset in _OFFSETS:
        with socket.socket() as marker:
            try:
                marker.bind(("127.0.0.1", _MARKER_PORT + offset))
            except OSError:
                continue
            if all(_is_free(port + offset) for port in USUAL_PORTS.values()):
                yield offset
                return
    raise CrmError("no free ports for the tests' stack between 24000 and 32860: end what holds them")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
