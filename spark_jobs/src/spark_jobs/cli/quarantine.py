"""`crm quarantine`: what was refused, why, and how it is mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from data_platform_core.errors import ContractBroken, UsageError
from spark_jobs.cli.lake import console

quarantine_app = typer.Typer(help="What was refused, why, and how it is mended.", no_args_is_help=True)
Reason = Annotated[str | None, typer.Option("--reason", help="Only of this reason: a code, or code:field.")]
At = Annotated[
    list[str] | None, typer.Option("--at", help="Only the message there, as `show` has it; may be repeated.")
]


@quarantine_app.command("list")
def list_command(
    entity: Annotated[str | None, typer.Argument(help="Which entity; all without it.")] = None,
    reason: Reason = None,
    as_json: Annotated[bool, typer.Option("--json", help="For other tools.")] = False,
) -> None:
    """How many messages are in quarantine, by reason."""
    import polars as pl
    from rich.table import Table

    from data_platform_core.contracts import known_entities
    from data_platform_core.reasons import REASONS, code_of
    from data_platform_core.settings import load_settings
    from spark_jobs.batch.quarantine import quarantined

    table = Table("entity", "reason", "messages", "first", "last", "meaning", box=None)
    told: list[dict[str, Any]] = []
    for one in known_entities([entity] if entity else ()):
        groups = (
            quarantined(load_settings(), one, ["reason", "arrived_at"])
            .group_by("reason")
            .agg(pl.len(), pl.min("arrived_at").alias("first"), pl.max("arrived_at").alias("last"))
        )
        for why, count, first, last in groups.sort("len", descending=True).iter_rows():
            if reason in (None, why, code_of(why)):
                told.append({"entity": one, "reason": why, "messages": count, "first": str(first), "last": str(last)})
                times = (f"{at:%Y-%m-%d %H:%M:%S}" for at in (first, last))
                table.add_row(one, why, f"{count:,}", *times, REASONS.get(code_of(why), ""))
    if as_json:
        typer.echo(json.dumps(told))
    elif told:
        console().print(table)
    else:
        typer.echo(f"nothing is in quarantine for {reason}" if reason else "nothing is in quarantine")


@quarantine_app.command()
def show(
    entity: Annotated[str, typer.Argument(help="Which entity.")],
    reason: Reason = None,
    at: At = None,
    limit: Annotated[int, typer.Option(min=1, help="Messages to show.")] = 20,
) -> None:
    """Messages in quarantine: where they came from, why they were refused, and their bytes."""
    from data_platform_core.contracts import CONTRACTS, known_entities
    from data_platform_core.settings import load_settings
    from spark_jobs.batch.quarantine import chosen, quarantined, refusal_of

    known_entities([entity])
    messages = chosen(quarantined(load_settings(), entity), reason, _places(at))
    for message in messages[:limit]:
        typer.echo(f"{message.place}  {message.reason}")
        words = refusal_of(CONTRACTS[entity], message.value or b"")
        typer.echo(f"  the contract says: {words or 'nothing against it'}")
        typer.echo("  " + (message.value or b"").decode(errors="backslashreplace"))
    typer.echo(f"{min(limit, len(messages))} of {len(messages)} messages")


@quarantine_app.command()
def replay(
    entity: Annotated[str, typer.Argument(help="Which entity.")],
    reason: Reason = None,
    at: At = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=JSON, as sequence=3 or region='\"KR-11\"'.")
    ] = None,
    drops: Annotated[list[str] | None, typer.Option("--drop", help="A field to take away.")] = None,
    value: Annotated[Path | None, typer.Option(help="A file with the whole mended text, for one message.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
) -> None:
    """Mend messages and put them back, once. Exit code 1 where some still break their contract."""
    from data_platform_core.contracts import CONTRACTS, known_entities
    from data_platform_core.settings import load_settings
    from data_platform_core.warehouse import connect
    from spark_jobs.batch.quarantine import chosen, mended, quarantined, refusal_of
    from spark_jobs.batch.quarantine import replay as send

    known_entities([entity])
    if reason is None and not at:
        raise UsageError("say which messages: --reason, or --at PARTITION:OFFSET as `show` has it")
    settings = load_settings()
    messages = chosen(quarantined(settings, entity), reason, _places(at))
    if not messages:
        raise UsageError(
            "no message in quarantine is of that reason, or at that place; `crm quarantine list` shows what is"
        )
    if value is not None and len(messages) != 1:
        raise UsageError(f"--value is for one message, and {len(messages)} were chosen: name it by --at")
    words = dict(_change(change) for change in changes or ())
    mends, hopeless = [], []
    for message in messages:
        try:
            mends.append((message, value.read_bytes() if value else mended(message.value, words, drops or ())))
        except ValueError as error:
            hopeless.append((message, str(error)))
    if dry_run:
        for message, text in mends:
            why = refusal_of(CONTRACTS[entity], text)
            typer.echo(f"{message.place}: {'still refused: ' + why if why else text.decode(errors='backslashreplace')}")
        return
    with connect(settings) as connection:
        done = send(settings, connection, entity, mends)
    typer.echo(f"{len(done.sent)} sent, {len(done.there)} had been sent before")
    bad = [*done.refused, *hopeless]
    if bad:
        told = "\n  ".join(f"{message.place}: {why}" for message, why in bad[:20])
        raise ContractBroken(f"{len(bad)} messages still break the contract and were not sent:\n  {told}")


def _places(at: list[str] | None) -> list[str]:
    for place in at or ():
        partition, _, offset = ":".join(place.split(":")[-2:]).partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise UsageError(f"--at {place}: write it as `crm quarantine list` and `show` do, as 3:1024")
    return at or []


def _change(words: str) -> tuple[str, Any]:
    name, is_there, text = words.partition("=")
    try:
        if not is_there:
            raise ValueError
        return name, json.loads(text)
    except ValueError:
        raise UsageError(f"--set {words}: write it as FIELD=JSON, as sequence=3 or region='\"KR-11\"'") from None


def register(app: typer.Typer) -> None:
    """Bring the commands of this file to `crm`."""
    app.add_typer(quarantine_app, name="quarantine", rich_help_panel="Lake")
