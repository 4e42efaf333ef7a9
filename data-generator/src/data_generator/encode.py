"""Records → messages: NDJSON lines in the contract's spelling, and the keys that place them."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.canonical import Digest, digest_of_frame
from data_platform_core.derive.fields import fields_of
from data_platform_core.layers import OWNER_FIELD

_SPELLING = "%Y-%m-%dT%H:%M:%S%.6fZ"


def lines_of(entity: str, table: pa.Table) -> list[bytes]:
    """The records as JSON, one per item, without line ends."""
    if not table.num_rows:
        return []
    instants = [field.name for field in fields_of(CONTRACTS[entity]) if field.kind == "instant"]
    frame = _frame(table).with_columns(pl.col(instants).dt.strftime(_SPELLING))
    return frame.write_ndjson().encode().split(b"\n")[:-1]


def keys_of(entity: str, table: pa.Table) -> Iterator[str]:
    """Each record's owner: who keeps the order of their records."""
    keys = table[OWNER_FIELD[entity]].to_pylist()
    if entity != "events":
        return iter(keys)
    return (customer or visitor for customer, visitor in zip(keys, table["visitor_id"].to_pylist(), strict=True))


def digest_of(entity: str, table: pa.Table) -> Digest:
    """The digest of a table of records."""
    return digest_of_frame(CONTRACTS[entity], _frame(table))


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
