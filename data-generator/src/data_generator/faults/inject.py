"""Faults put into records: some before they become text, some after."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_generator.faults.plan import (
    Ahead,
    Drifted,
    Duplicated,
    Evolved,
    Late,
    Malformed,
    Plan,
    Reordered,
    Skewed,
    Unknown,
    kept_plan,
)
from data_generator.messages import Delayed, Messages, messages_of
from data_generator.world.config import SECOND
from data_generator.world.draws import U64, Draws
from data_platform_core.contracts import CONTRACTS
from data_platform_core.layers import TOPICS
from data_platform_core.ledger.made import Unit

_TOO_LONG = "/" + "x" * 100_000
_REFERENCE = {"events": "product_id", "orders": "customer_id", "products": None, "profiles": None}
_NOBODY = {"product_id": "prd_" + "0" * 16, "customer_id": "cus_" + "0" * 16}
_OVERSIZE = {
    "events": ("page_path", "out_of_range"),
    "orders": ("payment_method", "unknown_value"),
    "products": ("name", "out_of_range"),
    "profiles": ("region", "bad_format"),
}
"""The field that is made too long, and for what a reader refuses it."""


@dataclass(frozen=True)
class Injector:
    """Puts the faults of a plan into units."""

    plan: Plan

    @classmethod
    def kept(cls, folder: Path, id_: str) -> Injector:
        """The injector of the plan that a ledger's windows carry."""
        return cls(kept_plan(folder, id_))

    def expected(self, unit: Unit, records: pl.DataFrame) -> pl.DataFrame:
        """What silver should hold of a unit: values as they were altered, without what no reader can take."""
        chosen = self._chosen(unit.entity, records)
        refused = [n for n, fault in enumerate(self.plan.faults) if isinstance(fault, Malformed | Drifted)]
        return self._altered(unit, records, chosen).filter(~np.isin(chosen, refused))

    def _altered(self, unit: Unit, records: pl.DataFrame, chosen: np.ndarray) -> pl.DataFrame:
        """The records with the chosen faults that are values: still by the contract."""
        for number, fault in enumerate(self.plan.faults):
            rows = chosen == number
            if isinstance(fault, Skewed) and rows.any():
                luck = self._draws.uniform("skew", _counters(unit.entity, records))
                skew = ((2 * luck - 1) * fault.max_seconds * SECOND).astype(np.int64)
                moved = pl.col("occurred_at") + pl.duration(microseconds=pl.lit(pl.Series(np.where(rows, skew, 0))))
                floor = (
                    pl.col("ordered_at") if unit.entity == "orders" else pl.lit(None, dtype=pl.Datetime("us", "UTC"))
                )
                records = records.with_columns(occurred_at=pl.max_horizontal(moved, floor))
            if isinstance(fault, Evolved):
                version = pl.when(pl.Series(rows)).then(2).otherwise(pl.col("schema_version")).cast(pl.Int64)
                records = records.with_columns(schema_version=version)
            if isinstance(fault, Ahead):
                ahead = pl.duration(seconds=pl.when(pl.Series(rows)).then(fault.seconds).otherwise(0))
                records = records.with_columns(occurred_at=pl.col("occurred_at") + ahead)
            if isinstance(fault, Unknown) and rows.any() and (field := _REFERENCE[unit.entity]):
                is_set = pl.Series(rows) & records[field].is_not_null()
                records = records.with_columns(
                    pl.when(is_set).then(pl.lit(_NOBODY[field])).otherwise(pl.col(field)).alias(field)
                )
        return records

    def messages(self, unit: Unit, records: pl.DataFrame) -> Messages:
        """The messages of a unit's records, faults among them."""
        entity = unit.entity
        chosen = self._chosen(entity, records)
        altered = self._altered(unit, records, chosen)
        clean = messages_of(unit, altered)
        is_other = _differs(entity, records, altered)
        values, copies = list(clean.values), np.ones(len(records), dtype=np.int64)
        place = np.arange(len(records), dtype=np.float64)
        delayed: list[Delayed] = []
        told: list[str] = []
        counters = _counters(entity, records)
        ids = records.select(CONTRACTS[entity].key).rows()
        at = records["occurred_at"].to_physical()
        for row in np.flatnonzero(chosen >= 0).tolist():
            fault = self.plan.faults[chosen[row]]
            if isinstance(fault, Skewed | Unknown) and not is_other[row]:
                continue  # it refers to nothing, or its clock went right
            expected, more = "silver", dict[str, Any]()
            if isinstance(fault, Late):
                delay = self._delay(fault, counters[row : row + 1])
                delayed.append(Delayed(at[row] + int(delay * SECOND), clean.keys[row], values[row]))
                copies[row], more = 0, {"seconds": round(delay, 3)}
            elif isinstance(fault, Duplicated):
                copies[row], more = fault.copies, {"copies": fault.copies}
            elif isinstance(fault, Reordered):
                place[row] += fault.by + 0.5
            elif isinstance(fault, Evolved):
                values[row] = _encoded(json.loads(values[row]) | {"loyalty_hint": "gold"})
            elif isinstance(fault, Malformed | Drifted):
                values[row], reason = _broken(entity, fault.kind, values[row])
                expected = f"quarantine: {reason}"
            told.append(
                json.dumps(
                    {"topic": TOPICS[entity], "key": ids[row], "fault": fault.kind, "expected": expected, **more}
                )
            )
        by_place = np.argsort(place, kind="stable")
        order = np.repeat(by_place, copies[by_place]).tolist()
        return Messages([clean.keys[n] for n in order], [values[n] for n in order], delayed, told)

    @property
    def _draws(self) -> Draws:
        return Draws(self.plan.seed)

    def _chosen(self, entity: str, records: pl.DataFrame) -> np.ndarray:
        """The number of each record's fault, or -1: by its key alone, whatever window it was made in."""
        luck = self._draws.uniform(f"fault of {entity}", _counters(entity, records))
        chosen = np.full(len(records), -1)
        low = 0.0
        for number, fault in enumerate(self.plan.faults):
            if entity in fault.entities:
                chosen[(luck >= low) & (luck < low + fault.share)] = number
                low += fault.share
        return chosen

    def _delay(self, fault: Late, counter: U64) -> float:
        luck = float(self._draws.uniform("delay", counter)[0])
        if fault.distribution == "uniform":
            return luck * fault.max_seconds
        return min(-float(np.log(1.0 - luck)) * fault.mean_seconds, fault.max_seconds)


def _differs(entity: str, records: pl.DataFrame, altered: pl.DataFrame) -> pl.Series:
    """Which records have another value where a fault may put one."""
    fields = ["occurred_at", *filter(None, [_REFERENCE[entity]])]
    same = [records[field].eq_missing(altered[field]) for field in fields]
    return ~pl.select(pl.all_horizontal(same)).to_series()


def _counters(entity: str, records: pl.DataFrame) -> U64:
    """A counter of each record, out of its key."""
    if records.is_empty():
        return np.empty(0, np.uint64)
    first, *others = CONTRACTS[entity].key
    if others == ["order_event_id"]:
        first, others = others[0], []
    digits = records[first].str.strip_prefix(records[first][0][:4] if "_" in records[first][0] else "")
    counter = digits.str.slice(0, 15).str.to_integer(base=16).to_numpy().astype(np.uint64)
    return counter ^ records["sequence"].to_numpy().astype(np.uint64) if others else counter


def _broken(entity: str, kind: str, value: bytes) -> tuple[bytes, str]:
    """A record as nobody can read it, and the reason for which it is refused."""
    if kind == "truncated":
        return value[: len(value) // 2], "not_json"
    if kind == "wrong_encoding":
        return value[:-1] + b"\xff\xfe" + value[-1:], "not_utf8"
    words = json.loads(value)
    if kind == "wrong_type":
        words["sequence"] = str(words["sequence"])
        reason = "wrong_type:sequence"
    elif kind == "oversize":
        field, why = _OVERSIZE[entity]
        words[field] = _TOO_LONG
        reason = f"{why}:{field}"
    elif kind == "added_field":
        words["loyalty_hint"] = "gold"
        reason = "unknown_field:loyalty_hint"
    else:
        words |= {"schema_version": 2, "sequence": str(words["sequence"])}
        reason = "wrong_type:sequence"
    return _encoded(words), reason


def _encoded(words: dict[str, Any]) -> bytes:
    return json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode()
