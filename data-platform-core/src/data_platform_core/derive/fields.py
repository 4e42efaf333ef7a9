"""A contract read once into plain fields, which every derivation below starts from."""

from __future__ import annotations

import types
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import AwareDatetime

from data_platform_core.contracts import Part, Record
from data_platform_core.contracts.base import LATEST_VERSION
from data_platform_core.errors import ContractBroken

Kind = Literal["text", "integer", "boolean", "instant", "parts"]


@dataclass(frozen=True)
class FieldSpec:
    """One field of a contract, in no tool's language."""

    name: str
    kind: Kind
    description: str
    is_nullable: bool = False
    pattern: str | None = None
    choices: tuple[str | int, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    parts: tuple[FieldSpec, ...] = ()


@cache
def fields_of(contract: type[Part]) -> tuple[FieldSpec, ...]:
    """The fields of a contract in their canonical order: as written, shared ones last.

    Raises:
        ContractBroken: a field has a type that no derivation knows.
    """
    own = [name for name in contract.model_fields if name in contract.__annotations__]
    shared = [name for name in contract.model_fields if name not in own]
    return tuple(_field(contract, name) for name in own + shared)


@cache
def stored_fields_of(contract: type[Record]) -> tuple[FieldSpec, ...]:
    """The fields as stores hold them: records of later versions flow, so that `schema_version` is a range there."""
    versions = {"choices": (), "minimum": contract.version, "maximum": LATEST_VERSION}
    return tuple(
        replace(field, **versions) if field.name == "schema_version" else field  # type: ignore[arg-type]
        for field in fields_of(contract)
    )


@cache
def published_fields_of(contract: type[Record]) -> tuple[FieldSpec, ...]:
    """The fields that the publish takes of silver: of a master, with the time that its versions are valid from."""
    stored = stored_fields_of(contract)
    return (*stored, _EFFECTIVE_AT) if contract.is_master else stored


_EFFECTIVE_AT = FieldSpec(
    "effective_at",
    "instant",
    "When the version begins to hold: its event time, or its arrival where a clock that was ahead dates it later.",
)


def _field(contract: type[Part], name: str) -> FieldSpec:
    info = contract.model_fields[name]
    traits: dict[str, Any] = {}
    for constraint in info.metadata:
        _read_constraint(constraint, traits)
    _read_type(info.annotation, traits)
    if "kind" not in traits:
        raise ContractBroken(f"{contract.__name__}.{name}: no derivation knows {info.annotation!r}")
    return FieldSpec(name=name, description=info.description or "", **traits)


def _read_type(annotation: Any, traits: dict[str, Any]) -> None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for constraint in arguments[1:]:
            _read_constraint(constraint, traits)
        _read_type(arguments[0], traits)
    elif origin in (Union, types.UnionType):
        traits["is_nullable"] = True
        _read_type(next(a for a in arguments if a is not type(None)), traits)
    elif origin is Literal:
        traits["choices"] = arguments
        traits["kind"] = "integer" if isinstance(arguments[0], int) else "text"
    elif origin is list:
        traits["kind"] = "parts"
        traits["parts"] = fields_of(arguments[0])
    elif annotation is bool:
        traits["kind"] = "boolean"
    elif annotation is int:
        traits["kind"] = "integer"
    elif annotation is str:
        traits["kind"] = "text"
    elif annotation is AwareDatetime:
        traits["kind"] = "instant"


def _read_constraint(constraint: Any, traits: dict[str, Any]) -> None:
    if isinstance(constraint, Ge):
        traits["minimum"] = constraint.ge
    elif isinstance(constraint, Le):
        traits["maximum"] = constraint.le
    elif isinstance(constraint, MinLen):
        traits["min_length"] = constraint.min_length
    elif isinstance(constraint, MaxLen):
        traits["max_length"] = constraint.max_length
    elif getattr(constraint, "pattern", None):
        traits["pattern"] = constraint.pattern
    elif hasattr(constraint, "metadata"):  # a pydantic Field(...) inside an alias
        for inner in constraint.metadata:
            _read_constraint(inner, traits)
