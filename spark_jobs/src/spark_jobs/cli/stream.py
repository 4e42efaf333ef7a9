"""`crm stream recover`: a new checkpoint where one is broken."""

from __future__ import annotations

from typing import Annotated

import typer

stream_app = typer.Typer(help="The streaming application's checkpoints.", no_args_is_help=True)


@stream_app.callback()
def _stream() -> None:
    """The streaming application's checkpoints."""


@stream_app.command()
def recover(entities: Annotated[list[str], typer.Argument(help="Whose checkpoint is made anew.")]) -> None:
    """Put a broken checkpoint aside, and let a new one go on from what bronze holds. The stream must be down."""
    from data_platform_core.contracts import known_entities
    from data_platform_core.settings import load_settings
    from spark_jobs.batch.recover import recover as make_new

    known_entities(entities)
    for entity in entities:
        done = make_new(load_settings(), entity)
        places = ", ".join(f"{p}: {offset:,}" for p, offset in sorted(done.offsets.items()))
        typer.echo(f"{entity} goes on from what bronze holds (partition: offset {places or 'nothing yet'})")
        if done.put_aside:
            typer.echo(f"the old checkpoint is in {done.put_aside}")
    typer.echo("start the stream by `crm up stream`")


def register(app: typer.Typer) -> None:
    """Bring the commands of this file to `crm`."""
    app.add_typer(stream_app, name="stream", rich_help_panel="Lake")
