"""Units of work: made from their own words, sent, and written into the ledger before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from data_generator.encode import digest_of
from data_generator.sinks import Sink
from data_generator.world.config import HOUR, SECOND, World
from data_generator.world.records import records_of
from data_generator.world.visits import EverydayTraffic, LiveTraffic, Traffic
from data_platform_core.errors import UsageError
from data_platform_core.ledger.made import Ledger, Unit

_RECORDS_A_FLUSH = 20_000


def history_unit(world: World, entity: str, start: int, end: int) -> Unit:
    """Everyday records of an entity within [start, end)."""
    hour = datetime.fromtimestamp(start / SECOND, UTC).strftime("%Y-%m-%dT%H")
    name = hour if end - start <= HOUR else str(world.day_of(start))
    return Unit(entity, "history", name, (("world", world.id), ("start", start), ("end", end)))


def live_unit(world: World, entity: str, second: int, tps: float) -> Unit:
    """Live records of an entity within one second."""
    name = (datetime(1970, 1, 1) + timedelta(seconds=second)).strftime("%Y-%m-%dT%H-%M-%S")
    words = (("world", world.id), ("start", second * SECOND), ("end", (second + 1) * SECOND), ("tps", tps))
    return Unit(entity, "live", name, words)


def make(world: World, unit: Unit) -> pa.Table:
    """The records of a unit."""
    words = dict(unit.words)
    traffic: Traffic = LiveTraffic(float(words["tps"])) if unit.kind == "live" else EverydayTraffic()
    return records_of(world, unit.entity, traffic, int(words["start"]), int(words["end"]))


def send(
    world: World,
    units: Iterable[Unit],
    sink: Sink,
    ledger: Ledger,
    on_progress: Callable[[int, int], None] = lambda units, records: None,
) -> int:
    """Make and send units that were not sent before; returns how many records that were.

    Units go out in groups: made, begun in the ledger together, put, flushed, and only then sent in the ledger.
    """
    done = ledger.sent_units()
    total = 0
    group: list[tuple[Unit, pa.Table]] = []
    for unit in units:
        if unit.id in done:
            on_progress(1, 0)
            continue
        group.append((unit, make(world, unit)))
        if sum(table.num_rows for _, table in group) >= _RECORDS_A_FLUSH:
            total += _send_group(group, sink, ledger, on_progress)
            group = []
    if group:
        total += _send_group(group, sink, ledger, on_progress)
    return total


def _send_group(
    group: list[tuple[Unit, pa.Table]], sink: Sink, ledger: Ledger, on_progress: Callable[[int, int], None]
) -> int:
    ledger.begin([unit for unit, _ in group])
    for unit, table in group:
        sink.put(unit.entity, unit.name, table)
    sink.flush()
    ledger.sent([(unit, digest_of(unit.entity, table)) for unit, table in group])
    records = sum(table.num_rows for _, table in group)
    on_progress(len(group), records)
    return records


def finish_unfinished(world: World, sink: Sink, ledger: Ledger) -> int:
    """Send again what an earlier run began and was not known to have sent; silver settles repeats.

    Raises:
        UsageError: the ledger holds records of another world.
    """
    others = ledger.worlds() - {world.id}
    if others:
        raise UsageError(
            f"the ledger holds records of world {', '.join(sorted(others))}, "
            f"and the settings now say world {world.id}: "
            "restore the CRM_WORLD_… and CRM_SHOP_… settings, or begin anew with `crm reset`"
        )
    return send(world, ledger.unfinished_units(), sink, ledger)
