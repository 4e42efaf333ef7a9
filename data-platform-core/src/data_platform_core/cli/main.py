"""The `crm` command: the platform's one command line.

Each part of the platform names its commands in the entry point group `crm.commands`, so that this
package imports none of them, and a command waits for no other part's libraries. The modules that are
named there say how commands are called, and import what a command works with in its function: the help
shows all commands and needs the libraries of none, and a command needs those of no other.
"""

from __future__ import annotations

import errno
import signal
import sys
from importlib.metadata import entry_points

import typer

from data_platform_core.errors import CrmError, Interrupted, UsageError

app = typer.Typer(
    name="crm",
    help="Customer data from source to decision, in real time, and proved record by record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


app.callback()(lambda: None)  # one command alone must keep its name
_FORESEEABLE = {
    errno.ENOSPC: "the disk is full: free some space, then run the same command again",
    errno.EACCES: "run `crm` as the user who installed it",
    errno.EROFS: "name a folder that can be written; CRM_HOME and CRM_STACK say where the stack's are",
}


_STORES = {"psycopg": "the warehouse", "cimpl": "Kafka", "botocore": "the lake's store"}
"""Whose an error is, by the library that raises it: one that went away in the middle is nobody's bug."""


def main() -> None:
    """Run the platform's command line, with the commands of every part that is installed."""
    commands = entry_points(group="crm.commands")
    chosen = [command for command in commands if sys.argv[1:2] == [command.name]] or commands
    for _, command in sorted({command.value: command for command in chosen}.items()):
        command.load()(app)
    run(app)


def run(program: typer.Typer) -> None:
    """Run a command line; a foreseeable mistake ends with one sentence and no stack trace."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what a command began is cleaned up
    try:
        program()
    except CrmError as error:
        _complain(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 130 if isinstance(error, Interrupted) else 1)
    except OSError as error:
        if error.errno not in _FORESEEABLE and not error.filename:
            raise
        hint = f"; {_FORESEEABLE[error.errno]}" if error.errno in _FORESEEABLE else ""
        _complain(f"{error.filename or 'a file'}: {error.strerror}{hint}")
        sys.exit(1)
    except MemoryError:
        _complain("this needs more memory than there is: ask for a smaller window or world")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        store = _STORES.get(type(error).__module__.partition(".")[0])
        if store is None:
            raise
        words = next(iter(str(error).strip().splitlines()), type(error).__name__)
        _complain(f"{store} did not do what was asked: {words[:300]}; `crm status` tells whether it runs")
        sys.exit(1)


def _complain(message: str) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[red]crm:[/red] ", end="")
    console.print(message, markup=False)  # what it quotes may hold brackets
