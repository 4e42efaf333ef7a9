"""Tables as they were, and what changed between two versions, read by delta-rs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from data_platform_core.errors import CrmError, UsageError
from data_platform_core.ledger.stores import read_errors

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Version:
    """One version of a table."""

    number: int
    at: datetime
    operation: str
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """What one version has that another has not, by key; of changed rows the later form."""

    added: pl.DataFrame
    removed: pl.DataFrame
    changed: pl.DataFrame


def versions_of(table: DeltaTable) -> list[Version]:
    """All versions that the log still tells of, the newest first."""
    return [
        Version(
            int(one["version"]),
            datetime.fromtimestamp(int(one.get("timestamp", 0)) / 1000, UTC),
            str(one.get("operation", "")),
            dict(one.get("operationMetrics") or {}),
        )
        for one in table.history()
    ]


def version_at(table: DeltaTable, words: str) -> int:
    """The number of a version, told by itself or by a time (the last version up to then).

    Raises:
        UsageError: there is no such version; the message says which there are.
    """
    known = versions_of(table)
    first, last = known[-1], known[0]
    span = f"there are {first.number} ({first.at:%Y-%m-%dT%H:%M:%SZ}) to {last.number} ({last.at:%Y-%m-%dT%H:%M:%SZ})"
    if words.isdecimal():
        if not first.number <= int(words) <= last.number:
            raise UsageError(f"no version {words}: {span}")
        return int(words)
    try:
        at = datetime.fromisoformat(words)
    except ValueError:
        raise UsageError(f"{words!r} is neither a version nor a time; write one as 2026-11-20T09:00:00Z") from None
    if at.tzinfo is None:
        raise UsageError(f"{words!r} has no time zone; write it as {at.isoformat()}Z, or with its offset")
    before = [version.number for version in known if version.at <= at]
    if not before:
        raise UsageError(f"the table is younger than {words}: {span}")
    return before[0]


def rows_at(table: DeltaTable, version: int, columns: list[str] | None = None) -> pl.DataFrame:
    """The rows of a version.

    Raises:
        CrmError: files of that version were removed.
        ComponentFailed: the store went away.
    """
    import polars as pl

    with read_errors(f"version {version} of {table.table_uri}"):
        table.load_as_version(version)
        try:
            frame = pl.from_arrow(table.to_pyarrow_table(columns=columns))
        except OSError as error:
            if "not found" not in str(error).lower() and "no such file" not in str(error).lower():
                raise
            raise CrmError(
                f"version {version} cannot be read any more: files of it were removed after their retention "
                "(CRM_LAKE_RETENTION_HOURS), or a customer was forgotten. Later versions can"
            ) from None
    assert isinstance(frame, pl.DataFrame)
    return frame


def difference(before: pl.DataFrame, after: pl.DataFrame, key: tuple[str, ...]) -> Difference:
    """What differs between two states of a table, by key."""
    import polars as pl

    on = list(key)
    others = [name for name in after.columns if name not in key]
    both = after.join(before, on=on, how="inner", suffix=" before")
    differs = pl.any_horizontal(
        [pl.lit(False), *(pl.col(name).ne_missing(pl.col(f"{name} before")) for name in others)]
    )
    return Difference(
        added=after.join(before, on=on, how="anti"),
        removed=before.join(after, on=on, how="anti"),
        changed=both.filter(differs).select(after.columns),
    )
