"""`crm gate`: the quality gates of the way to the models."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from data_platform_core.errors import UsageError


def gate_command(
    run: Annotated[str, typer.Option(help="Run id under which the verdicts are kept.")],
    entities: Annotated[list[str] | None, typer.Argument(help="Which entities; all without it.")] = None,
    layer: Annotated[
        Literal["silver", "published"], typer.Option(help="What the run is about to publish, or what is published.")
    ] = "published",
    whole: Annotated[
        bool, typer.Option("--whole", help="All that is published, not only what came since the gate was open last.")
    ] = False,
) -> None:
    """Check what the contracts and the laws between tables promise. Exit code 1 where a promise is broken.

    The last line is the address of the page that shows the verdicts.
    """
    from data_platform_core.contracts import known_entities
    from data_platform_core.quality.gate import run_gate
    from data_platform_core.settings import load_settings

    if whole and layer == "silver":
        raise UsageError("--whole is of what is published: the gate of silver looks at what its run is about to take")
    opened = run_gate(load_settings(), run, layer, known_entities(entities or ()), whole)
    typer.echo(f"the gate of {layer} is open: {opened.expectations} expectations met")
    typer.echo(opened.page)


def models_command(
    run: Annotated[str, typer.Option(help="Run id that dbt was given by CRM_RUN.")],
    layer: Annotated[Literal["staging", "warehouse", "marts"], typer.Option(help="Whose models.")],
) -> None:
    """What a run of dbt made of a layer's models and their tests. Exit code 1 where one of them failed.

    The last line is the address of the page that shows them.
    """
    from rich.console import Console

    from data_platform_core.quality.models import show_models
    from data_platform_core.settings import load_settings

    typer.echo(show_models(load_settings(), run, layer, Console(width=160, highlight=False)))


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.command("gate", rich_help_panel="Jobs")(gate_command)
    app.command("models", rich_help_panel="Jobs")(models_command)
