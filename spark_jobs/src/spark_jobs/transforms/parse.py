"""Messages → typed records, each with the reason to refuse it, if there is one."""

from __future__ import annotations

import re

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import FieldSpec, fields_of
from data_platform_core.derive.spark import field_shape, json_ddl, shape_pattern, value_refusals

COORDINATES = ("kafka_topic", "kafka_partition", "kafka_offset", "arrived_at")


def with_record(messages: DataFrame, contract: type[Record]) -> DataFrame:
    """Adds `record` (the contract's fields, instants still as text) and `reason` (null: accepted).

    Expects `value` (the message's bytes). Reasons, the first that holds: `empty`, `not_utf8`,
    `not_json`, `not_an_object`, `missing_field:f`, `unknown_field:f`, `wrong_type:f`, and those of
    `derive.spark.value_refusals`.
    """
    text = F.col("value").cast("string")
    is_utf8 = F.expr("is_valid_utf8(cast(value as string))")
    return (
        messages.withColumn("_json", F.when(is_utf8, _only_item(text)))
        .withColumn("_shape", F.schema_of_variant("_json"))
        .withColumn("record", F.from_json(F.when(is_utf8, text), json_ddl(contract)))
        .withColumn("reason", _reason(contract, is_utf8))
        .drop("_json", "_shape")
    )


def accepted(parsed: DataFrame, contract: type[Record]) -> DataFrame:
    """The accepted records in the silver table's columns."""
    return parsed.where(F.col("reason").isNull()).select(
        *[_typed(field).alias(field.name) for field in fields_of(contract)], *COORDINATES
    )


def refused(parsed: DataFrame) -> DataFrame:
    """The refused messages in the quarantine table's columns: untouched bytes, coordinates, reason."""
    return parsed.where(F.col("reason").isNotNull()).select("key", "value", *COORDINATES, "reason")


def _only_item(text: Column) -> Column:
    """The JSON of a text, null where it is not one value and nothing else.

    Spark's parser stops in silence after the first value. So the text is put into a list before its own
    hash: only where it is one value is the hash the second item.
    """
    seal = F.md5(text)
    items = F.try_parse_json(F.concat(F.lit("["), text, F.lit(',"'), seal, F.lit('"]')))
    return F.when(F.try_variant_get(items, "$[1]", "string") == seal, F.variant_get(items, "$[0]", "variant"))


def _typed(field: FieldSpec) -> Column:
    value = F.col(f"record.{field.name}")
    return value.cast("timestamp") if field.kind == "instant" else value


def _reason(contract: type[Record], is_utf8: Column) -> Column:
    """A structure is held against one pattern; only where it differs is it asked which field differs."""
    is_well_formed = F.col("_shape").rlike(shape_pattern(contract))
    first_bad_value = F.coalesce(
        *[F.when(F.expr(_inside(r.condition, contract)), F.lit(r.reason)) for r in value_refusals(contract)],
    )
    return (
        F.when(F.col("value").isNull() | (F.length("value") == 0), "empty")
        .when(~is_utf8, "not_utf8")
        .when(F.col("_json").isNull(), "not_json")
        .when(is_well_formed, first_bad_value)
        .when(~F.col("_shape").startswith("OBJECT<"), "not_an_object")
        .otherwise(_structural_reason(contract))
    )


def _structural_reason(contract: type[Record]) -> Column:
    fields = fields_of(contract)
    known = F.array(*[F.lit(field.name) for field in fields])
    present = F.expr("json_object_keys(cast(value as string))")
    missing = F.array_except(known, present)
    unknown = F.array_except(present, known)
    shapes = [
        (field.name, F.schema_of_variant(F.variant_get("_json", f"$.{field.name}", "variant"))) for field in fields
    ]
    wrong = [
        F.when(~shape.rlike(f"^{field_shape(field)}$"), F.lit(f"wrong_type:{name}"))
        for field, (name, shape) in zip(fields, shapes, strict=True)
    ]
    return F.coalesce(
        F.when(F.size(missing) > 0, F.concat(F.lit("missing_field:"), missing[0])),
        F.when(F.size(unknown) > 0, F.concat(F.lit("unknown_field:"), unknown[0])),
        *wrong,
        F.lit("wrong_type"),
    )


def _inside(condition: str, contract: type[Record]) -> str:
    """A condition over the contract's fields, as one over the fields of `record`."""
    names = "|".join(sorted((field.name for field in fields_of(contract)), key=len, reverse=True))
    # names within quotes, after a dot or before a bracket of a function are not fields
    return re.sub(rf"'[^']*'|(?<![\w.])({names})(?![\w(])", lambda m: f"record.{m[1]}" if m[1] else m[0], condition)
