"""The truth about every record: one typed model a file. Released versions never change."""

from collections.abc import Iterable

from data_platform_core.contracts.base import Part, Record
from data_platform_core.contracts.events import EventV1
from data_platform_core.contracts.orders import OrderLineV1, OrderV1
from data_platform_core.contracts.products import ProductV1
from data_platform_core.contracts.profiles import ProfileV1
from data_platform_core.errors import UsageError

CONTRACTS: dict[str, type[Record]] = {
    contract.entity: contract for contract in (EventV1, OrderV1, ProductV1, ProfileV1)
}
"""The newest contract of each entity, by its name, in the order in which people read them."""

ENTITIES: tuple[str, ...] = tuple(CONTRACTS)
GENERATED: tuple[str, ...] = tuple(entity for entity, contract in CONTRACTS.items() if contract.is_generated)
MASTERS: tuple[str, ...] = tuple(entity for entity, contract in CONTRACTS.items() if contract.is_master)


def known_entities(names: Iterable[str]) -> tuple[str, ...]:
    """The entities that are named, each once; all where none is.

    Raises:
        UsageError: names what is none, and those that there are.
    """
    named = tuple(dict.fromkeys(names))
    unknown = sorted(set(named) - set(ENTITIES))
    if unknown:
        raise UsageError(f"no entity {', '.join(unknown)}: there are {', '.join(ENTITIES)}")
    return named or ENTITIES


__all__ = [
    "CONTRACTS",
    "ENTITIES",
    "GENERATED",
    "MASTERS",
    "EventV1",
    "OrderLineV1",
    "OrderV1",
    "Part",
    "ProductV1",
    "ProfileV1",
    "Record",
    "known_entities",
]
