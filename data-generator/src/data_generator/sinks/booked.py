"""Records that are on their way already: in files, which the lake lands itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from data_generator.faults.plan import Plan
from data_generator.messages import Delayed, Messages
from data_platform_core.errors import UsageError
from data_platform_core.ledger.made import Unit


class BookedSink:
    """Takes records and sends none of them."""

    @property
    def prepare(self) -> Callable[[Unit, pl.DataFrame], Any]:
        """Nothing is to be done."""
        return _nothing

    @property
    def prepare_messages(self) -> Callable[[Unit, Messages], Any]:
        """Nothing is to be done."""
        return _nothing

    def check_faults(self, plan: Plan) -> None:
        """What faults made of a file's records is told beside the file, and not to this stack."""
        raise UsageError("files with faults cannot be booked: their records are not those that were made")

    def put(self, unit: Unit, prepared: Any) -> None:
        """Nothing is left to do."""

    def put_delayed(self, entity: str, message: Delayed) -> None:
        """Nothing is ever late: `check_faults` has refused."""
        raise AssertionError(message)

    def flush(self) -> None:
        """Nothing was put."""


def _nothing(*_: object) -> None:
    """A function of a module, so that it can be sent to a worker."""
