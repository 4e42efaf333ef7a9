"""Where records go: Kafka, or files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import polars as pl

    from data_generator.faults.plan import Plan
    from data_generator.messages import Delayed, Messages
    from data_platform_core.ledger.made import Unit

Format = Literal["ndjson", "csv", "parquet"]
"""Of files."""


class Sink(Protocol):
    """Takes the records of units; what was put is safe once `flush` has returned."""

    @property
    def prepare(self) -> Callable[[Unit, pl.DataFrame], Any]:
        """What can be done to a unit's records where they are made, in a process of its own; it can be pickled."""
        ...

    @property
    def prepare_messages(self) -> Callable[[Unit, Messages], Any]:
        """The same for messages, which may have faults."""
        ...

    def check_faults(self, plan: Plan) -> None:
        """Whether the sink can hold the faults of a plan.

        Raises:
            UsageError: it cannot.
        """
        ...

    def put(self, unit: Unit, prepared: Any) -> None:
        """Take what `prepare` has made of a unit's records."""
        ...

    def put_delayed(self, entity: str, message: Delayed) -> None:
        """Take a message whose time has come."""
        ...

    def flush(self) -> None:
        """Wait until all that was put is safe.

        Raises:
            CrmError: something was not taken; nothing put since the last flush counts as sent.
        """
        ...
