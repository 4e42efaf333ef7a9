"""What every record carries, and the words contracts are written in.

A contract is a pydantic model: strict, frozen, extra fields refused. Everything else that states a
schema is derived from it (see `data_platform_core.derive`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
)

INSTANT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
INSTANT_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def _read_spelling(value: Any) -> Any:
    """Read the one spelling of a time; refuse every other, so that a record has one form on the wire."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(INSTANT_PATTERN, value):
        raise ValueError("must be UTC with microseconds, as in 2026-01-31T09:00:00.000000Z")
    return datetime.strptime(value, INSTANT_FORMAT).replace(tzinfo=UTC)


def _is_utc(value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError("must be UTC")
    return value


LATEST_VERSION = 10_000
"""What a later version's number may be at most: beyond it is no version, but a mistake."""

Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_read_spelling),
    AfterValidator(_is_utc),
    PlainSerializer(lambda value: value.strftime(INSTANT_FORMAT), return_type=str),
]
"""A point in time: UTC, microseconds, spelled `2026-01-31T09:00:00.000000Z` on the wire."""

Sequence = Annotated[int, Field(ge=0, le=2**63 - 1)]
MinorUnits = Annotated[int, Field(ge=0, le=10**15)]
RecordId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
CustomerId = Annotated[str, Field(pattern=r"^cus_[0-9a-f]{16}$")]
ProductId = Annotated[str, Field(pattern=r"^prd_[0-9a-f]{16}$")]
OrderId = Annotated[str, Field(pattern=r"^ord_[0-9a-f]{16}$")]
VisitorId = Annotated[str, Field(pattern=r"^vis_[0-9a-f]{16}$")]
SessionId = Annotated[str, Field(pattern=r"^ses_[0-9a-f]{16}$")]
Currency = Literal["KRW", "USD", "EUR", "JPY"]
"""ISO 4217. A shop has one of them."""
SCHEMA_VERSION = Field(description="Version of the contract that the record was written by.")
"""What `schema_version` is, whichever number a contract allows."""


@dataclass(frozen=True)
class Law:
    """A rule between the fields of one record, said for Python and for Spark SQL.

    A test runs both over the example files and compares their verdicts.
    """

    name: str
    holds: Callable[[Any], bool]
    spark_sql: str


class Part(BaseModel):
    """A nested part of a record."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _can_be_stored(cls, value: Any) -> Any:
        if isinstance(value, str) and "\x00" in value:
            raise ValueError("must not hold the character 0, which PostgreSQL cannot store")
        return value


class Record(Part):
    """What every record of every entity carries."""

    entity: ClassVar[str]
    version: ClassVar[int]
    key: ClassVar[tuple[str, ...]]
    """The fields that make a record the same record, however often it arrives."""
    owner: ClassVar[str]
    """The field whose value is a message's key in Kafka; `crm forget` goes by one that is `customer_id`."""
    whole: ClassVar[str]
    """The field that says of what whole a record is a part: models that sum it up are made again when it goes."""
    is_master: ClassVar[bool] = False
    """Whether records are versions of their owner, each valid until the next."""
    is_generated: ClassVar[bool] = False
    """Whether `crm generate` makes it, so that the audit knows what was made."""
    model: ClassVar[str | None] = None
    """The warehouse's model with one row per record, for the audit to count; None where none has."""
    laws: ClassVar[tuple[Law, ...]] = ()

    occurred_at: Annotated[Instant, Field(description="Event time.")]
    sequence: Annotated[
        Sequence,
        Field(description="Grows from record to record of one owner, whatever the order of arrival."),
    ]

    @field_validator("schema_version", mode="before", check_fields=False)
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if type(value) is not int:  # Python takes true and 1.0 for 1, and the lake does not
            raise ValueError("must be a whole number")
        return value

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """A message as the pipeline reads it: a later version may add fields, and keeps all that this one promises.

        Raises:
            ValidationError: it breaks the contract.
        """
        try:
            words = json.loads(text)
            written = words["schema_version"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return cls.model_validate_json(text)  # which says what is wrong
        if type(written) is not int or not cls.version < written <= LATEST_VERSION:
            return cls.model_validate_json(text)
        known = {name: words[name] for name in cls.model_fields if name in words} | {"schema_version": cls.version}
        return cls.model_validate_json(json.dumps(known)).model_copy(update={"schema_version": written})

    def model_post_init(self, context: Any) -> None:
        """Hold the record against its laws."""
        for law in self.laws:
            if not law.holds(self):
                raise ValueError(f"law broken: {law.name}")
