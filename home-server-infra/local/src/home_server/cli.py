"""`crm up`, `down`, `status` and the other commands of the stack."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from data_platform_core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Only = Annotated[
    list[str] | None,
    typer.Argument(help="Only these components and what they need; all without it.", show_default=False),
]


def up(only: Only = None) -> None:
    """Start the stack, installing what is missing. What runs already is left as it is."""
    from data_platform_core.settings import load_settings
    from home_server import stack

    console = _console()
    seconds = stack.up(load_settings(), console, tuple(only or ()))
    console.print(f"up; the longest step took {max(seconds.values()):.0f} s. Addresses: [bold]crm status[/bold]")


def down(only: Only = None) -> None:
    """Stop the stack and keep its data."""
    from data_platform_core.settings import load_settings
    from home_server import stack

    console = _console()
    stack.down(load_settings(), console, tuple(only or ()))
    console.print("down; the data is kept")


def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop the stack and delete its data, logs and passwords. Asks first."""
    from data_platform_core.settings import load_settings
    from home_server import stack

    settings, console = load_settings(), _console()
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("reset deletes all data of the stack: say `crm reset --yes` where nobody can be asked")
        typer.confirm(f"Delete all data in {settings.stack_dir}?", abort=True)
    stack.reset(settings, console)
    console.print(f"the data in {settings.stack_dir} is gone")


def status(as_json: Annotated[bool, typer.Option("--json", help="All of it, for other tools.")] = False) -> None:
    """What runs, where, and where its log is. Exit code 1 where a component has died."""
    from data_platform_core.settings import load_settings
    from home_server import stack

    found = stack.status(load_settings())
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        from rich.table import Table

        console = _console()
        table = Table("component", "state", "pid", "address", box=None)
        colours = {"running": "green", "died": "red", "stopped": "dim"}
        for part in found["components"]:
            state = f"[{colours[part['state']]}]{part['state']}[/]"
            table.add_row(part["name"], state, str(part["pid"] or ""), part["address"])
        console.print(table)
        console.print(f"\nlogs: {found['stack']}/logs/<component>.log", soft_wrap=True, markup=False)
    dead = [part for part in found["components"] if part["state"] == "died"]
    if dead:
        from rich.console import Console

        for part in dead:
            told = f"[red]{part['name']} died:[/red] read {part['log']}, then `crm up` starts it again"
            Console(stderr=True, soft_wrap=True, highlight=False).print(told)
        raise typer.Exit(1)


def watch(
    silent: Annotated[float, typer.Option(min=5, help="Seconds without a batch while messages wait.")] = 180,
    waiting: Annotated[int, typer.Option(min=0, help="Messages of an entity that may wait.")] = 1_000_000,
) -> None:
    """See that the stream lives and lands; start it again where it does not. Exit code 99 where it was stopped."""
    from data_platform_core.settings import load_settings
    from home_server.watch import StreamStopped
    from home_server.watch import watch as run_watch

    console = _console()
    try:
        run_watch(load_settings(), console, silent, waiting)
    except StreamStopped as stopped:
        console.print(str(stopped))
        raise typer.Exit(99) from None  # what Airflow takes for a task to be skipped


def logs(
    only: Only = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each log.")] = 20,
) -> None:
    """The last lines of the components' logs."""
    from data_platform_core.settings import load_settings
    from home_server import stack
    from home_server.processes import Processes

    settings, console = load_settings(), _console()
    processes = Processes(settings.stack_dir)
    for name in stack.known_components(settings, tuple(only or ())) or stack.component_names(settings):
        log = processes.log(name)
        if not log.exists():
            continue
        console.rule(f"{name}  [dim]{log}[/dim]", align="left")
        for line in log.read_text(errors="replace").splitlines()[-lines:]:
            console.out(line, highlight=False)


def env() -> None:
    """The stack's settings as `export` lines; `source env.sh` reads them."""
    from data_platform_core.settings import load_settings
    from home_server.environment import settings_environment, tool_environment

    settings = load_settings()
    exported = settings_environment(settings)
    if settings.credentials_file.exists():
        exported |= tool_environment(settings)
    for name, value in exported.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def demo(
    live: Annotated[int, typer.Option(min=1, max=3600, help="Seconds of live traffic.")] = 60,
    tps: Annotated[float, typer.Option(min=1, max=1000, help="Records a second of it.")] = 50.0,
) -> None:
    """The main job: two days of history and a minute live, from Kafka to the marts, and the proof."""
    from data_platform_core.settings import load_settings
    from home_server.demo import demo as run_demo

    run_demo(load_settings(), _console(), live, tps)


def test(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...", help="Parts of the tests; all without. After --: for pytest.", show_default=False
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Only tests that need no stack.")] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only parts that a change concerns: since the revision named, or HEAD.")
    ] = False,
) -> None:
    """All tests, each part on a stack of its own that is gone afterwards; a table of their times at the end."""
    from data_platform_core.settings import load_settings
    from home_server.testing import run_tests

    run_tests(load_settings(), _console(), words or (), fast, changed)


def drill(
    arguments: Annotated[list[str] | None, typer.Argument(help="For pytest, after --.", show_default=False)] = None,
) -> None:
    """Longer tests of the way of the data, on a stack of their own."""
    from data_platform_core.settings import load_settings
    from home_server.testing import run_drills

    run_drills(load_settings(), _console(), tuple(arguments or ()))


def test_infra(
    arguments: Annotated[list[str] | None, typer.Argument(help="For pytest, after --.", show_default=False)] = None,
) -> None:
    """Tests of the playbooks, on test hosts; needs root."""
    from data_platform_core.settings import load_settings
    from home_server.testing import run_infra_tests

    run_infra_tests(load_settings(), _console(), False, tuple(arguments or ()))


def drill_infra(
    arguments: Annotated[list[str] | None, typer.Argument(help="For pytest, after --.", show_default=False)] = None,
) -> None:
    """The playbooks' longer tests: ZooKeeper, migration, upgrades, restores; needs root."""
    from data_platform_core.settings import load_settings
    from home_server.testing import run_infra_tests

    run_infra_tests(load_settings(), _console(), True, tuple(arguments or ()))


def testbed(
    command: Annotated[list[str] | None, typer.Argument(help="What to run in it, after --; a shell without.")] = None,
) -> None:
    """A network of test hosts to try the playbooks on: as root, gone when the command ends."""
    from data_platform_core.settings import load_settings
    from home_server.testbed.command import run_testbed

    raise typer.Exit(run_testbed(load_settings(), _console(), tuple(command or ())))


def lint() -> None:
    """Formatters, linters, types and derived files. Exit code 1 where one has something to say."""
    from data_platform_core.settings import load_settings
    from home_server.linting import run_lint

    run_lint(load_settings(), _console())


def bench(name: Annotated[str | None, typer.Argument(help="One benchmark; all without it.")] = None) -> None:
    """Benchmarks: ours beside a baseline, in one run."""
    from data_platform_core.settings import load_settings
    from home_server.benchmarks import run_benchmarks

    run_benchmarks(load_settings(), _console(), name)


def _console() -> Console:
    """Where nobody looks through a terminal, tables need not be squeezed into 80 columns."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.command(rich_help_panel="Platform")(demo)
    for command in (up, down, reset, status, logs, watch):
        app.command(rich_help_panel="Stack")(command)
    app.command(rich_help_panel="Platform")(env)
    app.command(rich_help_panel="Development")(test)
    app.command(rich_help_panel="Development")(test_infra)
    app.command(rich_help_panel="Development")(drill)
    app.command(rich_help_panel="Development")(drill_infra)
    app.command(rich_help_panel="Development")(testbed)
    app.command(rich_help_panel="Development")(lint)
    app.command(rich_help_panel="Development")(bench)
