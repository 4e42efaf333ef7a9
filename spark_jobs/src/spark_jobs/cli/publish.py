"""`crm publish`: silver → PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from data_platform_core.errors import UsageError


def publish_command(
    run: Annotated[str, typer.Option(help="Run id: the same id takes the same versions again.")],
    entities: Annotated[list[str] | None, typer.Argument(help="Which entities; all without it.")] = None,
    whole: Annotated[bool, typer.Option(help="Replace what is published by all that silver has.")] = False,
) -> None:
    """Publish what silver has to PostgreSQL, exactly once."""
    from data_platform_core.contracts import known_entities
    from data_platform_core.settings import load_settings
    from spark_jobs.batch.publish import publish

    published = publish(load_settings(), run, known_entities(entities or ()), whole)
    if not published:
        typer.echo("the lake has no tables yet: nothing to publish")
    if whole and published and not any(done.rows_read for done in published):
        raise UsageError(f"the run {run} was done before, and takes nothing anew: name another by --run")
    for done in published:
        window = done.window
        typer.echo(
            f"{window.entity}: versions ({window.from_version}, {window.to_version}], "
            f"{done.rows_read:,} rows read, {done.rows_written:,} changed"
        )


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.command("publish", rich_help_panel="Jobs")(publish_command)
