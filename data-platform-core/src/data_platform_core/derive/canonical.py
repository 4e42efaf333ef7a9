"""The canonical form of a record and the digest of a set of records.

A record's canonical form is its contract's fields in order, each as a netstring (`length:bytes`,
length in bytes, in decimal); a null is `-`; an integer is written in decimal, a boolean as `t` or
`f`, an instant as microseconds since 1970, a list as `count[` items `]`. Its hash is the first 16
bytes of SHA-256, read as two big-endian unsigned 64-bit lanes; a set's digest is each lane's sum
modulo 2^64, so that no order matters. The same digest comes out of Polars and PostgreSQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import FieldSpec, fields_of

if TYPE_CHECKING:
    import polars as pl
    import polars_hash as plh

_LANE = 2**64


@dataclass(frozen=True)
class Digest:
    """How many records a set holds and the sum of their hashes: equal sets have equal digests."""

    count: int = 0
    high: int = 0
    low: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.count + other.count, (self.high + other.high) % _LANE, (self.low + other.low) % _LANE)

    def __sub__(self, other: Digest) -> Digest:
        return Digest(self.count - other.count, (self.high - other.high) % _LANE, (self.low - other.low) % _LANE)

    @property
    def hex(self) -> str:
        """Both lanes as 32 hexadecimal digits."""
        return f"{self.high:016x}{self.low:016x}"

    @classmethod
    def from_hex(cls, count: int, text: str) -> Digest:
        """The digest of so many records from its 32 digits."""
        return cls(count, int(text[:16], 16), int(text[16:], 16))


def hashes_of(texts: plh.HExpr) -> list[pl.Expr]:
    """The hashes of records in canonical form, as columns `high` and `low`."""
    import polars as pl

    digits = texts.chash.sha2_256().str
    return [
        digits.slice(start, 16).str.to_integer(base=16, dtype=pl.UInt64).alias(lane)
        for start, lane in ((0, "high"), (16, "low"))
    ]


def hashes_of_frame(contract: type[Record], frame: pl.DataFrame) -> pl.DataFrame:
    """The hashes of a frame with the contract's columns (instants as UTC microseconds), as columns `high` and `low`."""
    return _hashed(contract, frame).collect(engine="streaming")


def digest_of_frame(contract: type[Record], frame: pl.DataFrame) -> Digest:
    """The digest of a frame with the contract's columns (instants as UTC microseconds)."""
    # the sum of unsigned integers is modulo 2^64; the streaming engine works on all cores
    high, low = _hashed(contract, frame).sum().collect(engine="streaming").row(0)
    return Digest(len(frame), high, low)


def _hashed(contract: type[Record], frame: pl.DataFrame) -> pl.LazyFrame:
    import polars_hash as plh

    return frame.lazy().select(text=canonical_polars(contract)).select(hashes_of(plh.col("text")))


def canonical_polars(contract: type[Record]) -> pl.Expr:
    """The canonical form as a Polars expression over the contract's columns."""
    import polars as pl

    return pl.concat_str([_polars(field, pl.col(field.name)) for field in fields_of(contract)])


def _polars(field: FieldSpec, value: pl.Expr) -> pl.Expr:
    import polars as pl

    if field.kind == "parts":
        items = pl.concat_str([_polars(part, pl.element().struct.field(part.name)) for part in field.parts])
        return pl.format("{}[{}]", value.list.len(), value.list.eval(items).list.join(""))
    if field.kind == "instant":
        text = value.dt.epoch("us").cast(pl.String)
    elif field.kind == "boolean":
        text = pl.when(value).then(pl.lit("t")).otherwise(pl.lit("f"))
    else:
        text = value.cast(pl.String)
    netstring = pl.concat_str([text.str.len_bytes().cast(pl.String), pl.lit(":"), text])
    return pl.when(value.is_null()).then(pl.lit("-")).otherwise(netstring) if field.is_nullable else netstring


def digest_postgres(contract: type[Record], table: str) -> str:
    """A query on a published table that returns `count, high, low` of its digest."""
    canonical = " || ".join(_postgres(field, f"t.{field.name}") for field in fields_of(contract))
    lane = "('x' || encode(substring(h from {start} for 8), 'hex'))::bit(64)::bigint::numeric"
    # bit(64) reads as signed: shift it back to 0 .. 2^64 - 1
    high, low = (f"mod({lane.format(start=s)} + {_LANE}, {_LANE})" for s in (1, 9))
    return (
        f"select count(*), coalesce(mod(sum({high}), {_LANE}), 0), coalesce(mod(sum({low}), {_LANE}), 0)\n"
        f"from (select sha256(convert_to({canonical}, 'UTF8')) as h from {table} as t) as hashed"
    )


def _postgres(field: FieldSpec, value: str) -> str:
    if field.kind == "parts":
        items = " || ".join(_postgres(part, f"(item ->> '{part.name}')") for part in field.parts)
        return (
            f"(select jsonb_array_length({value}) || '[' || string_agg({items}, '' order by place) || ']'"
            f" from jsonb_array_elements({value}) with ordinality as items (item, place))"
        )
    if field.kind == "instant":
        text = f"(extract(epoch from {value}) * 1000000)::bigint::text"
    elif field.kind == "boolean":
        text = f"(case when {value} then 't' else 'f' end)"
    else:
        text = f"{value}::text"
    netstring = f"octet_length({text}) || ':' || {text}"
    return f"coalesce({netstring}, '-')" if field.is_nullable else netstring
