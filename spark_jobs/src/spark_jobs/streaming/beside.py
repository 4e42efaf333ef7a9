"""Tables read beside Spark: a few columns of a few files take milliseconds, where a plan of Spark's takes a second.

Files that cannot hold what is asked for are skipped by the statistics in Delta's log, as Spark would.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
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
        try:
            if self._table is None:
                self._table = DeltaTable(self._address, storage_options=s3_options(self._settings))
            else:
                self._table.update_incremental()
            for batch in self._table.to_pyarrow_dataset().to_batches(columns=columns, filter=condition):
                if batch.num_rows:
                    yield pl.DataFrame(batch)
        except (OSError, DeltaError) as error:
            self._table = None  # it is not known what of it was read
            raise ComponentFailed(f"the lake at {self._settings.s3_url} is out of reach: {str(error)[:300]}") from None
