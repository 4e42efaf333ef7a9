"""Where records go: Kafka, or files."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class Sink(Protocol):
    """Takes records; what was put is safe once `flush` has returned."""

    def put(self, entity: str, unit: str, table: pa.Table) -> None:
        """Take the records of a unit of work."""
        ...

    def flush(self) -> None:
        """Wait until all that was put is safe.

        Raises:
            CrmError: something was not taken; nothing put since the last flush counts as sent.
        """
        ...
