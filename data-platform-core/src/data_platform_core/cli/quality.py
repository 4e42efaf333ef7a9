"""`crm gate`: the quality gate before the models."""

from __future__ import annotations

from typing import Annotated

import typer

from data_platform_core.settings import load_settings


def gate_command(run: Annotated[str, typer.Option(help="Run id under which the verdicts are kept.")]) -> None:
    """Check what the contracts promise on the published tables. Exit code 1 where a promise is broken."""
    from data_platform_core.quality.gate import run_gate  # heavy: only where it is used

    verdicts = run_gate(load_settings(), run)
    typer.echo(f"the gate is open: {len(verdicts)} expectations met")


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.command("gate", rich_help_panel="Jobs")(gate_command)
