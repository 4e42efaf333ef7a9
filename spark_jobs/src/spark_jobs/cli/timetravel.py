"""`crm timetravel`: the lake's tables as they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from data_platform_core.errors import UsageError

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable

    from data_platform_core.layers import Layer

timetravel_app = typer.Typer(help="The lake's tables as they were.", no_args_is_help=True)
Entity = Annotated[str, typer.Argument(help="Whose table.")]
LayerName = Annotated[Literal["bronze", "silver", "quarantine"], typer.Option("--layer", help="Which of its tables.")]
As = Annotated[str, typer.Option("--as-of", help="A version, or a time as 2026-11-20T09:00:00Z; now without it.")]


@timetravel_app.command()
def show(
    entity: Entity,
    as_of: As = "",
    layer: LayerName = "silver",
    where_id: Annotated[str | None, typer.Option("--id", help="Only rows with this in their key.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    out: Annotated[Path | None, typer.Option(help="All of it into a *.parquet, *.csv or *.ndjson.")] = None,
) -> None:
    """A table as of a version or a time."""
    import polars as pl

    from data_platform_core.contracts import CONTRACTS
    from spark_jobs.batch.timetravel import rows_at, version_at

    table = _table(entity, layer)
    version = version_at(table, as_of) if as_of else table.version()
    rows = rows_at(table, version)
    if where_id is not None:
        keys = CONTRACTS[entity].key if layer == "silver" else ("key",)
        rows = rows.filter(pl.any_horizontal([pl.col(name).cast(pl.String, strict=False) == where_id for name in keys]))
    typer.echo(f"{layer}.{entity}, version {version}: {len(rows):,} rows")
    if out is None:
        _show(rows.head(limit))
        return
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.absolute().parent}")
    try:
        _write(rows, out)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from None
    typer.echo(f"written to {out}")


def _write(rows: pl.DataFrame, out: Path) -> None:
    import polars as pl

    # bytes have no place in a text: base64, as is the custom
    text = rows.with_columns(pl.col(pl.Binary).bin.encode("base64"))
    if out.suffix == ".parquet":
        rows.write_parquet(out)
    elif out.suffix == ".ndjson":
        text.write_ndjson(out)
    elif out.suffix == ".csv":
        nested = [name for name, kind in text.schema.items() if kind.is_nested()]
        text.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested).write_csv(out)
    else:
        raise UsageError(f"--out {out}: name it *.parquet, *.csv or *.ndjson")


@timetravel_app.command()
def diff(
    entity: Entity,
    before: Annotated[str, typer.Option("--from", help="A version, or a time.")],
    after: Annotated[str, typer.Option("--to", help="A version, or a time.")],
    as_json: Annotated[bool, typer.Option("--json", help="Counts and keys, for other tools.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show of each kind.")] = 5,
) -> None:
    """What silver gained, lost and changed between two versions, by id."""
    from data_platform_core.contracts import CONTRACTS
    from spark_jobs.batch.timetravel import difference, rows_at, version_at

    table = _table(entity, "silver")
    first, last = version_at(table, before), version_at(table, after)
    key = CONTRACTS[entity].key
    found = difference(rows_at(table, first), rows_at(table, last), key)
    parts = {"added": found.added, "removed": found.removed, "changed": found.changed}
    if as_json:
        told = {name: {"count": len(rows), "keys": rows.select(key).head(1000).rows()} for name, rows in parts.items()}
        typer.echo(json.dumps({"from": first, "to": last, **told}))
        return
    for name, rows in parts.items():
        typer.echo(f"{name}: {len(rows):,}")
        if len(rows):
            _show(rows.head(limit))


@timetravel_app.command()
def history(
    entity: Entity, layer: LayerName = "silver", limit: Annotated[int, typer.Option(min=1, help="Versions.")] = 30
) -> None:
    """The versions of a table: when, and what was done."""
    from spark_jobs.batch.timetravel import versions_of

    for version in versions_of(_table(entity, layer))[:limit]:
        figures = {n: v for n, v in version.metrics.items() if n in ("numOutputRows", "numFiles", "numAddedFiles")}
        told = ", ".join(f"{name} {value}" for name, value in figures.items())
        typer.echo(f"{version.number:>8}  {version.at:%Y-%m-%dT%H:%M:%S.%fZ}  {version.operation:<18} {told}")


def _table(entity: str, layer: Layer) -> DeltaTable:
    from data_platform_core.contracts import known_entities
    from data_platform_core.ledger.stores import open_table
    from data_platform_core.settings import load_settings

    known_entities([entity])
    table = open_table(load_settings(), layer, entity)
    if table is None:
        raise UsageError(f"the lake has no table {layer}.{entity} yet")
    return table


def _show(rows: pl.DataFrame) -> None:
    import polars as pl

    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200 if sys.stdout.isatty() else 400, fmt_str_lengths=60):
        typer.echo(str(rows))


def register(app: typer.Typer) -> None:
    """Bring the commands of this file to `crm`."""
    app.add_typer(timetravel_app, name="timetravel", rich_help_panel="Lake")
