"""The manifest: what was made, by entity and minute, made again from the ledger's windows and held against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from data_generator.faults.inject import Injector
from data_generator.world.config import MINUTE, World
from data_generator.world.load import Profile
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.derive.canonical import Digest, hashes_of_frame
from data_platform_core.errors import StoresDisagree
from data_platform_core.ledger.made import Ledger


@dataclass(frozen=True)
class Minute:
    """The records of an entity within one minute of event time."""

    entity: str
    start: int
    digest: Digest

    def row(self) -> dict[str, Any]:
        """As it is printed: count, and 128 bits of digest in hexadecimal."""
        at = datetime.fromtimestamp(self.start / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%MZ")
        return {"entity": self.entity, "minute": at, "count": self.digest.count, "digest": self.digest.hex}


def manifest(world: World, profile: Profile, ledger: Ledger, start: int, end: int) -> Iterator[Minute]:
    """Every minute within [start, end) in which something was made, by entity and time.

    Raises:
        StoresDisagree: a window made again is not what the ledger says was made of it.
    """
    sent = ledger.sent_units()
    for entity in GENERATED:
        shop, minutes = Shop(world, profile), dict[int, Digest]()
        units = (unit for unit in ledger.begun_units() if unit.entity == entity and unit.id in sent)
        for unit in sorted(units, key=lambda unit: unit.start):
            if unit.end <= start or unit.start >= end:
                continue
            records = shop.records(entity, unit.start, unit.end)
            if unit.faults:
                records = Injector.kept(ledger.path.parent, unit.faults).expected(unit, records)
            found = _by_minute(entity, records)
            if sum(found.values(), Digest()) != sent[unit.id]:
                had = sent[unit.id].count
                raise StoresDisagree(
                    f"{unit.id}: the world now makes {len(records):,} records of it, other than the {had:,} that the "
                    f"ledger {ledger.path} has: it was made by another version of the generator, "
                    "or its load.jsonl is missing"
                )
            for at, digest in found.items():
                if start <= at < end:
                    minutes[at] = minutes.get(at, Digest()) + digest
        yield from (Minute(entity, at, digest) for at, digest in sorted(minutes.items()))


def _by_minute(entity: str, records: pl.DataFrame) -> dict[int, Digest]:
    minute = records["occurred_at"].to_physical() // MINUTE * MINUTE
    hashes = hashes_of_frame(CONTRACTS[entity], records).with_columns(minute=minute)
    sums = hashes.group_by("minute").agg(pl.len(), pl.sum("high"), pl.sum("low"))
    return {at: Digest(count, high, low) for at, count, high, low in sums.rows()}
