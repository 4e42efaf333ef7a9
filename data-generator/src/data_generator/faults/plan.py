"""The plan of faults: which kinds, how many, of which entities. A file of YAML, read strictly."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_platform_core.contracts import GENERATED
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.files import write_whole

Share = Annotated[float, Field(gt=0, le=1, description="Share of the records concerned.")]


class _Fault(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    share: Share
    entities: tuple[str, ...] = Field(GENERATED, strict=False)

    @model_validator(mode="after")
    def _are_entities(self) -> Any:
        unknown = sorted(set(self.entities) - set(GENERATED))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is no entity: there are {', '.join(GENERATED)}")
        return self


class Late(_Fault):
    """Delivered after its time, by a delay drawn from a distribution."""

    kind: Literal["late"]
    distribution: Literal["exponential", "uniform"] = "exponential"
    mean_seconds: float = Field(600, gt=0, le=365 * 86_400, allow_inf_nan=False)
    max_seconds: float = Field(3 * 86_400, gt=0, le=365 * 86_400, allow_inf_nan=False)


class Duplicated(_Fault):
    """Delivered more than once."""

    kind: Literal["duplicated"]
    copies: int = Field(2, ge=2, le=100)


class Reordered(_Fault):
    """Delivered behind so many of the records that follow it."""

    kind: Literal["reordered"]
    by: int = Field(50, ge=1, le=10_000)


class Malformed(_Fault):
    """Delivered in a form that no reader can take."""

    kind: Literal["truncated", "wrong_type", "wrong_encoding", "oversize"]


class Drifted(_Fault):
    """Delivered in a form that its contract does not know: a field too many, or a later version that breaks it."""

    kind: Literal["added_field", "version_2_incompatible"]


class Evolved(_Fault):
    """Delivered by a later version of its contract, which adds a field: no reader needs to stop for it."""

    kind: Literal["version_2"]


class Ahead(_Fault):
    """With the time of a clock that is far ahead."""

    kind: Literal["future_dated"]
    seconds: int = Field(30 * 86_400, ge=3600, le=3650 * 86_400)


class Skewed(_Fault):
    """With the time of a clock that is wrong by up to so much, in either direction."""

    kind: Literal["clock_skew"]
    max_seconds: int = Field(300, ge=1, le=365 * 86_400)


class Unknown(_Fault):
    """With a customer, or the product or order it is about, that nobody has."""

    kind: Literal["unknown_reference"]


Fault = Annotated[
    Late | Duplicated | Reordered | Malformed | Drifted | Evolved | Ahead | Skewed | Unknown,
    Field(discriminator="kind"),
]


class Plan(BaseModel):
    """Faults and the seed that places them. A record has one fault at most: the shares of an entity add up to 1."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    seed: int = 0
    faults: tuple[Fault, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _leave_something(self) -> Plan:
        for entity in GENERATED:
            total = sum(fault.share for fault in self.faults if entity in fault.entities)
            if total > 1 + 1e-9:  # twenty shares of 0.05 add up to a little more
                raise ValueError(f"the shares of {entity} add up to {total:g}: a record can have one fault only")
        return self

    @property
    def id(self) -> str:
        """A short name of this plan, which the ledger's windows carry."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=4).hexdigest()


def keep_plan(folder: Path, plan: Plan) -> None:
    """Keep a plan beside the ledger whose windows carry its id."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"faults-{plan.id}.json", plan.model_dump_json())


@lru_cache(maxsize=16)  # asked for every unit
def kept_plan(folder: Path, id_: str) -> Plan:
    """The plan that a ledger's windows carry.

    Raises:
        CrmError: its file is not there, or damaged.
    """
    file = folder / f"faults-{id_}.json"
    if not file.exists():
        raise CrmError(f"{file} is missing: without it, what was made with those faults cannot be made again")
    try:
        return Plan.model_validate_json(file.read_bytes())
    except ValidationError:
        raise CrmError(f"{file} is damaged: without it, what was made with those faults cannot be made again") from None


def read_plan(file: Path) -> Plan:
    """The plan in a file.

    Raises:
        UsageError: it cannot be read, or is no plan; the message names the place.
    """
    try:
        return Plan.model_validate(yaml.safe_load(file.read_text()) or {})
    except OSError as error:
        raise UsageError(f"--faults {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--faults {file} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{word}]" if isinstance(word, int) else f".{word}" for word in first["loc"]).lstrip(".")
        raise UsageError(
            f"--faults {file}, {place or 'the whole'}: {first['msg'].removeprefix('Value error, ')}"
        ) from None
