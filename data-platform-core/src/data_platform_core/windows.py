"""What a publish run takes of silver: versions, fixed under its run id before anything of them is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_platform_core.errors import CrmError, UsageError

if TYPE_CHECKING:
    import polars as pl
    import psycopg
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Window:
    """The versions of an entity's silver table that a run takes: (from, to]; all of it where `from` is -1."""

    entity: str
    table_id: str
    from_version: int
    to_version: int

    @property
    def is_whole(self) -> bool:
        """Whether the run takes the table as it is at `to_version`."""
        return self.from_version < 0


def check_never_published(connection: psycopg.Connection, entity: str) -> None:
    """Refuse to take for empty what was published before.

    Raises:
        CrmError: the entity was published, and its silver table is not there.
    """
    if connection.execute("select 1 from ops.publish_marks where entity = %s", (entity,)).fetchone():
        raise CrmError(
            f"the silver table of {entity} was published before and is gone: restore it, or begin anew with `crm reset`"
        )


def fix_window(
    connection: psycopg.Connection, table: DeltaTable, run_id: str, entity: str, whole: bool = False
) -> Window:
    """The versions that this run takes; fixed at its first call, the same ever after.

    Raises:
        CrmError: the marks belong to another table at this place.
        UsageError: the whole is asked for under a run that takes what changed.
    """
    table_id = str(table.metadata().id)
    with connection.transaction():
        mark = connection.execute(
            "select table_id, version from ops.publish_marks where entity = %s", (entity,)
        ).fetchone()
        if mark and mark[0] != table_id:
            raise CrmError(
                f"the silver table of {entity} is not the one published before (it was made anew): "
                "publish into a new warehouse, or restore the table; `crm reset` begins anew with both"
            )
        connection.execute(
            "insert into ops.publish_runs (run_id, entity, table_id, from_version, to_version)"
            " values (%s, %s, %s, %s, %s) on conflict do nothing",
            (run_id, entity, table_id, mark[1] if mark and not whole else -1, table.version()),
        )
        fixed = connection.execute(
            "select table_id, from_version, to_version from ops.publish_runs where run_id = %s and entity = %s",
            (run_id, entity),
        ).fetchone()
    assert fixed is not None
    window = Window(entity, *fixed)
    if whole and not window.is_whole:
        raise UsageError(
            f"the run {run_id} has fixed what it takes of {entity} already, and it is not the whole: "
            "take another run id for --whole"
        )
    return window


def is_published(connection: psycopg.Connection, run_id: str, window: Window) -> bool:
    """Whether this run is done, or a later one has published its versions.

    Raises:
        CrmError: what it takes follows on what is published no more.
    """
    done = connection.execute(
        "select published_batch is not null from ops.publish_runs where run_id = %s and entity = %s",
        (run_id, window.entity),
    ).fetchone()
    mark = connection.execute("select version from ops.publish_marks where entity = %s", (window.entity,)).fetchone()
    if done and done[0]:
        return True
    if mark is None and not window.is_whole:
        raise CrmError(
            f"the run {run_id} takes what changed of {window.entity} after version {window.from_version}, and what was "
            "published before it is gone: another run takes the whole"
        )
    return mark is not None and (mark[0] > window.to_version or (mark[0] == window.to_version and not window.is_whole))


def rows_taken(table: DeltaTable, window: Window, columns: list[str], files_ahead: int = 4) -> Iterator[pl.DataFrame]:
    """The rows of a window that takes the whole table, in the store's batches.

    Args:
        files_ahead: files that are read before they are asked for; each takes its size of memory.
    """
    table.load_as_version(window.to_version)
    return _frames(table.to_pyarrow_dataset().to_batches(columns=columns, fragment_readahead=files_ahead))


def changes_taken(table: DeltaTable, window: Window, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    """What Delta's change feed tells of a window, in its batches; of an update, the row after it."""
    import polars as pl

    versions = {"starting_version": window.from_version + 1, "ending_version": window.to_version}
    feed = table.load_cdf(**versions, columns=columns)  # type: ignore[arg-type]
    return (frame.filter(pl.col("_change_type") != "update_preimage") for frame in _frames(feed))


def _frames(batches: Iterable[Any]) -> Iterator[pl.DataFrame]:
    """Arrow's batches, of whichever library, as frames."""
    import polars as pl

    return (frame for frame in map(pl.DataFrame, batches) if len(frame))
