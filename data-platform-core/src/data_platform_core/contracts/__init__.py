"""The truth about every record: one typed model a file. Released versions never change."""

from data_platform_core.contracts.base import Part, Record
from data_platform_core.contracts.events import EventV1
from data_platform_core.contracts.orders import OrderLineV1, OrderV1
from data_platform_core.contracts.products import ProductV1
from data_platform_core.contracts.profiles import ProfileV1

CONTRACTS: dict[str, type[Record]] = {
    contract.entity: contract for contract in (EventV1, OrderV1, ProductV1, ProfileV1)
}
"""The newest contract of each entity, by its name, in the order in which people read them."""

ENTITIES: tuple[str, ...] = tuple(CONTRACTS)

__all__ = [
    "CONTRACTS",
    "ENTITIES",
    "EventV1",
    "OrderLineV1",
    "OrderV1",
    "Part",
    "ProductV1",
    "ProfileV1",
    "Record",
]
