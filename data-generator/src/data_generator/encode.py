"""Records → messages: JSON in the contract's spelling, the keys that place them, and the digest of a table."""

from __future__ import annotations

from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.canonical import Digest, digest_of_frame
from data_platform_core.derive.fields import fields_of


def write_ndjson(entity: str, records: pl.DataFrame, file: IO[bytes]) -> None:
    """Write the records as lines of JSON, in the contract's order of fields."""
    _spelled(entity, records).write_ndjson(file)


def lines_of(entity: str, records: pl.DataFrame) -> list[bytes]:
    """The records as JSON, one an item, without line ends."""
    if records.is_empty():
        return []
    text = pl.struct(pl.all()).struct.json_encode().cast(pl.Binary)
    return _spelled(entity, records).select(text).to_series().to_list()


def _spelled(entity: str, records: pl.DataFrame) -> pl.DataFrame:
    """The records with their times as contracts spell them."""
    instants = [field.name for field in fields_of(CONTRACTS[entity]) if field.kind == "instant"]
    return records.with_columns(_text_of(records[name]) for name in instants)


def _text_of(instants: pl.Series) -> pl.Series:
    """Times as `2026-01-31T09:00:00.000000Z`; twice as fast as formatting them by a pattern."""
    plain = pc.cast(pc.cast(instants.to_arrow(), pa.timestamp("us")), pa.string())
    text = pl.from_arrow(pc.binary_join_element_wise(pc.binary_replace_slice(plain, 10, 11, "T"), "Z", ""))
    assert isinstance(text, pl.Series)
    return text.alias(instants.name)


def keys_of(entity: str, records: pl.DataFrame) -> list[bytes]:
    """Each record's owner: who keeps the order of their records."""
    keys = pl.col(CONTRACTS[entity].owner)
    if entity == "events":
        keys = pl.coalesce(keys, "visitor_id")
    return records.select(keys.cast(pl.Binary)).to_series().to_list()


def digest_of(entity: str, records: pl.DataFrame) -> Digest:
    """The digest of a set of records."""
    return digest_of_frame(CONTRACTS[entity], records)
