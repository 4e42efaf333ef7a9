"""Work: which windows are missing, made by any number of workers, sent in their order, known to the ledger."""

from __future__ import annotations

import heapq
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import polars as pl

from data_generator.encode import digest_of
from data_generator.faults.inject import Injector
from data_generator.faults.plan import Plan, keep_plan, kept_plan
from data_generator.messages import Delayed, Messages
from data_generator.sinks import Sink
from data_generator.world.config import HOUR, World
from data_generator.world.load import FOR_EVER, Profile
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.files import mend_last_line
from data_platform_core.ledger.made import Ledger, Unit

MASTERS = tuple(entity for entity in GENERATED if CONTRACTS[entity].is_master)
MASTERS_FIRST = (*MASTERS, "orders", "events")
"""What the world makes, in the order in which records refer to others."""
_RECORDS_A_BLOCK = 200_000


@dataclass(frozen=True)
class Piece:
    """The records of some entities within [start, end), which are made and begun together.

    `faults` is the id of their plan of faults; None: that of the recipe.
    """

    entities: tuple[str, ...]
    start: int
    end: int
    faults: str | None = None


@dataclass(frozen=True)
class Made:
    """A unit that was made: what the sink prepared of it, and its digest."""

    unit: Unit
    prepared: Any
    digest: Digest


# --- planning ---------------------------------------------------------------------------------


def blocks(world: World, first: date, end: date) -> Iterator[tuple[int, int]]:
    """The shop's days from `first` to before `end`, in parts whose records fit into memory."""
    a_day = max(world.events_per_day, 1) * 2  # growth and campaigns
    hours = next(h for h in (24, 12, 8, 6, 4, 3, 2, 1) if a_day * h <= _RECORDS_A_BLOCK * 24 or h == 1)
    for day in world.days(first, end):
        start, after = world.midnight(day), world.midnight(day + timedelta(days=1))
        for low in range(start, after, hours * HOUR):
            yield low, min(low + hours * HOUR, after)


def window(world: World, first: date, last: date) -> tuple[date, date]:
    """The days from `first` to `last`, as [first, end).

    Raises:
        UsageError: the window is empty or outside the world's calendar.
    """
    if last < first:
        raise UsageError(f"the window ends ({last}) before it has begun ({first}): --to must not be before --from")
    if first < world.opened_on:
        raise UsageError(
            f"the shop opened on {world.opened_on}: --from {first} is before that; CRM_WORLD_OPENED_ON says when"
        )
    if last >= world.closes_on:
        raise UsageError(f"the world's calendar ends on {world.closes_on}: --to {last} is after that")
    return first, last + timedelta(days=1)


def pieces(
    ledger: Ledger, windows: Iterable[tuple[int, int]], entities: tuple[str, ...] = MASTERS_FIRST
) -> list[Piece]:
    """What of the windows was never begun; entities that lack the same part are made together."""
    found = []
    missing = ledger.missing()
    for start, end in windows:
        parts: dict[tuple[int, int], list[str]] = {}
        for entity in entities:
            for part in missing(entity, start, end):
                parts.setdefault(part, []).append(entity)
        found += [Piece(tuple(lacking), low, high) for (low, high), lacking in sorted(parts.items())]
    return found


def master_windows(world: World, end: int) -> Iterator[tuple[int, int]]:
    """From the shop's opening to a time: master data is needed whole, whatever window of visits is."""
    month = 30 * 24 * HOUR
    for start in range(world.opened_at, end, month):
        yield start, min(start + month, end)


def check_world(world: World, ledger: Ledger) -> None:
    """Whether a ledger is of this world.

    Raises:
        UsageError: it holds records of another one.
    """
    others = ledger.worlds() - {world.id}
    if others:
        raise UsageError(
            f"the ledger holds records of world {', '.join(sorted(others))}, "
            f"and the settings now say world {world.id}: "
            "restore the CRM_WORLD_… and CRM_SHOP_… settings (--customers and --events-per-day stand for two of them), "
            "or begin anew with `crm reset` or another --out"
        )


def unfinished(world: World, sink: Sink, ledger: Ledger) -> list[Piece]:
    """What an earlier run began and was not known to have sent; silver settles repeats.

    Raises:
        UsageError: the ledger holds records of another world, or with faults that the sink cannot hold.
    """
    check_world(world, ledger)
    units = ledger.unfinished_units()
    for faults in {unit.faults for unit in units} - {""}:
        sink.check_faults(kept_plan(ledger.path.parent, faults))
    return [Piece((unit.entity,), unit.start, unit.end, unit.faults) for unit in units]


# --- making -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How records are made ready for a sink; can be sent to another process."""

    world: World
    profile: Profile
    prepare: Callable[[Unit, pl.DataFrame], Any]
    prepare_messages: Callable[[Unit, Messages], Any]
    plans: Path
    faults: str = ""

    @classmethod
    def of(cls, world: World, profile: Profile, sink: Sink, ledger: Ledger, plan: Plan | None = None) -> Recipe:
        """The recipe for a sink and its ledger, beside which a plan of faults is kept.

        Raises:
            UsageError: the sink cannot hold the faults of the plan.
        """
        plans = ledger.path.parent
        if plan:
            sink.check_faults(plan)
            keep_plan(plans, plan)
        return cls(world, profile, sink.prepare, sink.prepare_messages, plans, plan.id if plan else "")

    def units(self, piece: Piece) -> list[Unit]:
        """The units of a piece."""
        faults = self.faults if piece.faults is None else piece.faults
        return [Unit(entity, piece.start, piece.end, self.world.id, faults) for entity in piece.entities]


class Maker:
    """Makes pieces one after the other."""

    def __init__(self, recipe: Recipe) -> None:
        self.shop = Shop(recipe.world, recipe.profile)
        self._recipe = recipe

    def __call__(self, piece: Piece) -> list[Made]:
        """The units of a piece; their digests are of what silver should hold of them."""
        made = []
        for unit in self._recipe.units(piece):
            records = self.shop.records(unit.entity, unit.start, unit.end)
            if unit.faults:
                injector = Injector.kept(self._recipe.plans, unit.faults)
                prepared = self._recipe.prepare_messages(unit, injector.messages(unit, records))
                records = injector.expected(unit, records)
            else:
                prepared = self._recipe.prepare(unit, records)
            made.append(Made(unit, prepared, digest_of(unit.entity, records)))
        return made


_maker: Maker | None = None  # of a worker's process


def _become_maker(recipe: Recipe) -> None:
    global _maker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _maker = Maker(recipe)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever, and write beside the next run."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make(piece: Piece) -> list[Made]:
    assert _maker is not None
    return _maker(piece)


class Delivery:
    """Hands what was made to a sink, and knows it as sent once all of it is safe; holds back what comes later."""

    def __init__(self, sink: Sink, ledger: Ledger) -> None:
        self._sink, self._ledger = sink, ledger
        self._waiting: list[tuple[int, int, Unit, Delayed]] = []  # by their time, then as they came
        self._came = count()
        self._owed: dict[Unit, tuple[Digest, int]] = {}  # new units of which so many messages are still to come
        self._faults = ledger.path.with_name("faults.jsonl")
        mend_last_line(self._faults)

    def begin(self, units: list[Unit]) -> None:
        """Know the units of a piece as begun."""
        self._ledger.begin(units)

    def deliver(self, made: list[Made], is_new: bool = True) -> None:
        """Put what was made, and what was held back until then; `is_new` is false for what the ledger has already."""
        sent: list[tuple[Unit, Digest]] = []
        for each in made:
            self._sink.put(each.unit, each.prepared)
            delayed = each.prepared.delayed if isinstance(each.prepared, Messages) else []
            faults = each.prepared.faults if isinstance(each.prepared, Messages) else []
            if faults and is_new:
                with self._faults.open("a") as file:
                    file.writelines(line + "\n" for line in faults)
            for message in delayed:
                heapq.heappush(self._waiting, (message.due, next(self._came), each.unit, message))
            if is_new and delayed:
                self._owed[each.unit] = (each.digest, len(delayed))
            elif is_new:
                sent.append((each.unit, each.digest))
        self._settle(sent + self._release(max((each.unit.end for each in made), default=0)))

    def finish(self) -> None:
        """Deliver what is still held back: a run does not end before it."""
        self._settle(self._release(FOR_EVER))

    def _settle(self, sent: list[tuple[Unit, Digest]]) -> None:
        self._sink.flush()
        if sent:
            self._ledger.sent(sent)

    def _release(self, until: int) -> list[tuple[Unit, Digest]]:
        """Put what is due before a time; returns the new units of which nothing is held back any more."""
        complete = []
        while self._waiting and self._waiting[0][0] < until:
            _, _, unit, message = heapq.heappop(self._waiting)
            self._sink.put_delayed(unit.entity, message)
            if unit in self._owed:  # not so what was sent before
                digest, left = self._owed.pop(unit)
                if left == 1:
                    complete.append((unit, digest))
                else:
                    self._owed[unit] = (digest, left - 1)
        return complete


def send_masters(recipe: Recipe, until: int, sink: Sink, ledger: Ledger) -> None:
    """Make and send what is missing of the master data before a time, in microseconds since 1970."""
    send(recipe, pieces(ledger, master_windows(recipe.world, until), MASTERS), sink, ledger)


def send(
    recipe: Recipe,
    work: list[Piece],
    sink: Sink,
    ledger: Ledger,
    workers: int = 1,
    on_progress: Callable[[Piece, int], None] = lambda piece, records: None,
) -> int:
    """Make pieces and send them, in their order whatever the workers; returns how many records that were.

    A piece is begun in the ledger, made, put, flushed, and only then sent in the ledger.

    Raises:
        CrmError: the sink did not take something; the same call goes on where this one stopped.
    """
    delivery, total = Delivery(sink, ledger), 0
    for piece, made in _made(recipe, work, delivery, workers):
        delivery.deliver(made)
        records = sum(unit.digest.count for unit in made)
        total += records
        on_progress(piece, records)
    delivery.finish()
    return total


def _made(recipe: Recipe, work: list[Piece], delivery: Delivery, workers: int) -> Iterator[tuple[Piece, list[Made]]]:
    if workers <= 1 or len(work) <= 1:
        maker = Maker(recipe)
        for piece in work:
            delivery.begin(recipe.units(piece))
            yield piece, maker(piece)
        return
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # for the workers: each is to keep one core busy
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_become_maker, initargs=(recipe,))
    ahead: deque[tuple[Piece, Future[list[Made]]]] = deque()
    try:
        for piece in work:
            delivery.begin(recipe.units(piece))
            ahead.append((piece, pool.submit(_make, piece)))
            if len(ahead) > workers:  # one waits for each that is made: what lies ahead stays small
                done, future = ahead.popleft()
                yield done, future.result()
        while ahead:
            done, future = ahead.popleft()
            yield done, future.result()
    except BrokenProcessPool:
        raise CrmError(
            "a worker was killed, perhaps for want of memory: run the same command again, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
