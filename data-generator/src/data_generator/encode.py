"""Records → messages: JSON in the contract's spelling, the keys that place them, and the digest of a table."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.canonical import Digest, digest_of_frame
from data_platform_core.derive.fields import fields_of
from data_platform_core.layers import OWNER_FIELD


def json_of(entity: str, table: pa.Table) -> pl.Series:
    """The records as JSON text, one a record, in the contract's order of fields."""
    spelled = table
    for field in fields_of(CONTRACTS[entity]):
        if field.kind == "instant":
            place = table.column_names.index(field.name)
            spelled = spelled.set_column(place, field.name, _spelled(table[field.name]))
    return frame_of(spelled).select(pl.struct(pl.all()).struct.json_encode()).to_series()


def _spelled(instants: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as `2026-01-31T09:00:00.000000Z`; twice as fast as formatting them by a pattern."""
    plain = pc.cast(pc.cast(instants, pa.timestamp("us")), pa.string())
    return pc.binary_join_element_wise(pc.binary_replace_slice(plain, 10, 11, "T"), "Z", "")


def lines_of(entity: str, table: pa.Table) -> list[bytes]:
    """The records as JSON, one an item, without line ends."""
    return list(json_of(entity, table).cast(pl.Binary)) if table.num_rows else []


def ndjson_of(entity: str, table: pa.Table) -> pa.Buffer:
    """The records as lines of JSON, in one piece."""
    if not table.num_rows:
        return pa.py_buffer(b"")
    lines = pl.select(pl.concat_str([pl.lit(json_of(entity, table)), pl.lit("\n")])).to_series().to_arrow()
    _, offsets, text = lines.cast(pa.large_string()).buffers()  # the lines lie one behind the other
    first, last = (int.from_bytes(offsets[8 * n : 8 * n + 8], "little") for n in (lines.offset, lines.offset + len(lines)))
    return text.slice(first, last - first)


def keys_of(entity: str, table: pa.Table) -> list[bytes]:
    """Each record's owner: who keeps the order of their records."""
    keys = table[OWNER_FIELD[entity]]
    if entity == "events":
        keys = pc.coalesce(keys, table["visitor_id"])
    return list(keys.cast(pa.binary()).to_pylist())


def digest_of(entity: str, table: pa.Table) -> Digest:
    """The digest of a table of records."""
    return digest_of_frame(CONTRACTS[entity], frame_of(table))


def frame_of(table: pa.Table) -> pl.DataFrame:
    """A table as a frame, without a copy."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
