"""What is delivered of a unit: keys and values in their order, and what of it comes later."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from data_generator.encode import keys_of, lines_of
from data_platform_core.ledger.made import Unit


@dataclass(frozen=True)
class Delayed:
    """A message and when it is delivered, in microseconds since 1970."""

    due: int
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Messages:
    """The messages of a unit."""

    keys: list[bytes]
    values: list[bytes]
    delayed: list[Delayed] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """one line of JSON a fault: which record, and what should become of it"""


def messages_of(unit: Unit, records: pl.DataFrame) -> Messages:
    """The messages of a unit's records, without faults."""
    return Messages(keys_of(unit.entity, records), lines_of(unit.entity, records))
