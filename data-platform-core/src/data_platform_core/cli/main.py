"""The `crm` command: the platform's one command line.

Each part of the platform brings its own commands through the entry point group `crm.commands`, so
that this package imports none of them.
"""

from __future__ import annotations

import signal
import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console

from data_platform_core.errors import CrmError, UsageError

app = typer.Typer(
    name="crm",
    help="Customer data from source to decision, in real time, and proved record by record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run the command line; a foreseeable mistake ends with one sentence and no stack trace."""
    for point in sorted(entry_points(group="crm.commands"), key=lambda point: point.name):
        point.load()(app)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what a command began is cleaned up
    try:
        app()
    except CrmError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]crm:[/red] {error}", markup=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
