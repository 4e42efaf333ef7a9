"""Tables read beside Spark: a few columns of a few files take milliseconds, where a plan of Spark's takes a second.

Files that cannot hold what is asked for are skipped by the statistics in Delta's log, as Spark would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import polars.selectors as cs
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from data_platform_core.errors import ComponentFailed
from data_platform_core.s3 import s3_options
from data_platform_core.settings import Settings


class TableBeside:
    """A table of the lake, for reading; each time as it is then."""

    def __init__(self, settings: Settings, address: str) -> None:
        self._settings, self._address = settings, address.replace("s3a://", "s3://")
        self._table: DeltaTable | None = None

    def rows(self, columns: list[str], condition: ds.Expression) -> pl.DataFrame:
        """The columns of the rows for which a condition holds.

        Raises:
            ComponentFailed: the store is out of reach.
        """
        found = list(self.batches(columns, condition))
        return pl.concat(found) if found else pl.DataFrame(schema=columns)

    def batches(self, columns: list[str], condition: ds.Expression) -> Iterator[pl.DataFrame]:
        """The same, part by part: there may be more of them than memory holds.

        Raises:
            ComponentFailed: the store is out of reach.
        """
        with self._opened() as table:
            for batch in table.to_pyarrow_dataset().to_batches(columns=columns, filter=condition):
                if batch.num_rows:
                    yield pl.DataFrame(batch)

    def spans(self, instant: str) -> list[tuple[int, int]]:
        """From when to when the rows of the files are, by the statistics of a column of instants, in microseconds.

        Raises:
            ComponentFailed: the store is out of reach.
        """
        with self._opened() as table:
            files = pl.DataFrame(table.get_add_actions(flatten=True))
        if files.is_empty():
            return []
        # Delta's log has milliseconds, and rounds down
        first, last = (pl.col(f"{bound}.{instant}").dt.epoch("us") for bound in ("min", "max"))
        found = files.select(first.fill_null(-(2**62)), (last + 999).fill_null(2**62)).sort(cs.first())
        merged: list[tuple[int, int]] = []
        for begin, end in found.iter_rows():
            if merged and begin <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        return merged

    @contextmanager
    def _opened(self) -> Iterator[DeltaTable]:
        try:
            if self._table is None:
                self._table = DeltaTable(self._address, storage_options=s3_options(self._settings))
            else:
                self._table.update_incremental()
            yield self._table
        except (OSError, DeltaError) as error:
            self._table = None  # it is not known what of it was read
            raise ComponentFailed(f"the lake at {self._settings.s3_url} is out of reach: {str(error)[:300]}") from None
