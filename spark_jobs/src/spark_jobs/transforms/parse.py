"""Messages → typed records, each with the reason to refuse it, if there is one."""

from __future__ import annotations

import re
from datetime import timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import FieldSpec, fields_of
from data_platform_core.derive.spark import (
    Refusal,
    field_shape,
    json_ddl,
    plain_pattern,
    value_refusals,
    values_left_open,
)

MESSAGE = ("key", "value")
COORDINATES = ("kafka_topic", "kafka_partition", "kafka_offset", "arrived_at")
MARKS = ("added_fields", "effective_at", "is_future_dated")
"""What silver says of a record beside its contract's fields."""


def parsed(messages: DataFrame, contract: type[Record], tolerance: timedelta) -> DataFrame:
    """Messages in bronze's columns, with the contract's fields, `MARKS`, and `reason` (null: accepted).

    Reasons, the first that holds: `empty`, `not_utf8`, `not_json`, `not_an_object`, `missing_field:f`,
    `unknown_field:f`, `wrong_type:f`, and those of `derive.spark.value_refusals`. A record of a later version
    may add fields: they are kept as JSON in `added_fields`. `effective_at` is the event time, or the arrival
    where the event time is more than `tolerance` ahead of it, and `is_future_dated`.
    """
    text = F.col("value").cast("string")
    is_plain = F.expr("is_valid_utf8(cast(value as string))") & text.rlike(plain_pattern(contract))
    latest = F.col("arrived_at") + F.expr(f"interval {tolerance // timedelta(seconds=1)} seconds")
    return (
        messages.withColumn("_is_plain", F.coalesce(is_plain, F.lit(False)))
        .withColumn("_json", F.when(~F.col("_is_plain"), _only_item()))
        .withColumn("_is_json", F.col("_json").isNotNull())  # what is not is not read twice more to find out
        .withColumn("_keys", F.when(F.col("_is_json"), F.expr("json_object_keys(cast(value as string))")))
        .withColumn("record", F.from_json(F.when(F.col("_is_plain") | F.col("_is_json"), text), json_ddl(contract)))
        .withColumn("reason", _reason(contract))
        .select(
            *MESSAGE,
            *COORDINATES,
            "reason",
            *[_typed(field).alias(field.name) for field in fields_of(contract)],
            _added_fields(contract).alias("added_fields"),
        )
        .withColumn("is_future_dated", F.col("occurred_at") > latest)
        .withColumn(
            "effective_at", F.when(F.col("is_future_dated"), F.col("arrived_at")).otherwise(F.col("occurred_at"))
        )
    )


def silver_columns(contract: type[Record]) -> list[str]:
    """The columns of a settled record, in silver's order."""
    return [*(field.name for field in fields_of(contract)), *MARKS, *COORDINATES]


def refused(messages: DataFrame) -> DataFrame:
    """The refused messages in the quarantine table's columns: untouched bytes, coordinates, reason."""
    return messages.where("reason != 'forgotten'").select(*MESSAGE, *COORDINATES, "reason")


def _is_utf8() -> Column:
    return F.expr("is_valid_utf8(cast(value as string))")


def _only_item() -> Column:
    """The JSON of a text, null where it is not one value and nothing else.

    Spark's parser stops in silence after the first value. So the text is put into a list before its own
    hash: only where it is one value is the hash the second item.
    """
    text = F.col("value").cast("string")
    seal = F.md5(text)
    items = F.try_parse_json(F.concat(F.lit("["), text, F.lit(',"'), seal, F.lit('"]')))
    only = F.when(F.try_variant_get(items, "$[1]", "string") == seal, F.variant_get(items, "$[0]", "variant"))
    # an object without its end, as a broken-off message is, is told without an exception in the parser
    is_cut = text.rlike(r"^[ \t\r\n]*\{") & ~text.rlike(r"\}[ \t\r\n]*$")
    return F.when(_is_utf8() & ~is_cut, only)


def _typed(field: FieldSpec) -> Column:
    value = F.col(f"record.{field.name}")
    # what is no time is refused, and must not stop the others of its batch
    return F.expr(f"try_to_timestamp(record.{field.name})") if field.kind == "instant" else value


def _is_later_version(contract: type[Record]) -> Column:
    written = F.try_variant_get("_json", "$.schema_version", "bigint")
    return F.coalesce(written > contract.version, F.lit(False))


def _added_fields(contract: type[Record]) -> Column:
    names = ", ".join(f"'{field.name}'" for field in fields_of(contract))
    added = F.expr(
        "to_json(map_filter(from_json(cast(value as string), 'map<string, variant>'), "
        f"(name, _) -> name not in ({names})))"
    )
    has_more = F.size("_keys") > len(fields_of(contract))
    return F.when(F.col("reason").isNull() & _is_later_version(contract) & has_more, added)


def _reason(contract: type[Record]) -> Column:
    """A text is held against one pattern; only where it differs is it asked what differs."""
    return F.when(F.col("_is_plain"), _first(values_left_open(contract), contract)).otherwise(
        F.when(F.col("value").isNull() | (F.length("value") == 0), "empty")
        .when(~_is_utf8(), "not_utf8")
        .when(F.col("_json").isNull(), "not_json")
        .when(~F.schema_of_variant("_json").startswith("OBJECT<"), "not_an_object")
        .otherwise(F.coalesce(*_structural_reasons(contract), _first(value_refusals(contract), contract)))
    )


def _first(refusals: list[Refusal], contract: type[Record]) -> Column:
    nothing = F.lit(None).cast("string")
    return F.coalesce(*[F.when(F.expr(_inside(r.condition, contract)), F.lit(r.reason)) for r in refusals], nothing)


def _structural_reasons(contract: type[Record]) -> list[Column]:
    fields = fields_of(contract)
    known = F.array(*[F.lit(field.name) for field in fields])
    missing = F.array_except(known, F.col("_keys"))
    unknown = F.array_except(F.col("_keys"), known)
    shapes = [(field, F.schema_of_variant(F.variant_get("_json", f"$.{field.name}", "variant"))) for field in fields]
    return [
        F.when(F.size(missing) > 0, F.concat(F.lit("missing_field:"), missing[0])),
        F.when(~_is_later_version(contract) & (F.size(unknown) > 0), F.concat(F.lit("unknown_field:"), unknown[0])),
        *[F.when(~shape.rlike(f"^{field_shape(f)}$"), F.lit(f"wrong_type:{f.name}")) for f, shape in shapes],
    ]


def _inside(condition: str, contract: type[Record]) -> str:
    """A condition over the contract's fields, as one over the fields of `record`."""
    names = "|".join(sorted((field.name for field in fields_of(contract)), key=len, reverse=True))
    # names within quotes, after a dot or before a bracket of a function are not fields
    return re.sub(rf"'[^']*'|(?<![\w.])({names})(?![\w(])", lambda m: f"record.{m[1]}" if m[1] else m[0], condition)
