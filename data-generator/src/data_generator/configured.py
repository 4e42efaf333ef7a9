"""What the settings and the options of a command name: the world, the sink, and the books of what was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from data_generator.load.store import ProfileFile
from data_generator.world.config import Funnel, Retention, World
from data_platform_core.errors import UsageError
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings

if TYPE_CHECKING:
    from data_generator.sinks import Format, Sink


def world_of(settings: Settings) -> World:
    """The world that the settings say.

    Raises:
        UsageError: no holidays are known of its country, or no words of its language; or its retention rises.
    """
    import holidays
    from faker.config import AVAILABLE_LOCALES

    if settings.shop_country not in holidays.list_supported_countries():
        raise UsageError(
            f"CRM_SHOP_COUNTRY is {settings.shop_country}, and no holidays are known of it; write one as KR"
        )
    shares = (settings.world_retention_d1, settings.world_retention_d7, settings.world_retention_d30)
    if not shares[0] > shares[1] > shares[2]:
        raise UsageError(
            f"CRM_WORLD_RETENTION_D1, …_D7 and …_D30 are {', '.join(f'{s:g}' for s in shares)}: "
            "each must be smaller than the one before it"
        )
    if settings.shop_locale not in AVAILABLE_LOCALES:
        raise UsageError(f"CRM_SHOP_LOCALE is {settings.shop_locale}, and no words are known in it; write one as ko_KR")
    return World(
        seed=settings.world_seed,
        opened_on=settings.world_opened_on,
        customers=settings.world_customers,
        products=settings.world_products,
        events_per_day=settings.world_events_per_day,
        time_zone=settings.shop_time_zone,
        currency=settings.shop_currency,
        country=settings.shop_country,
        locale=settings.shop_locale,
        growth_per_year=settings.world_growth_per_year,
        known_share=settings.world_known_share,
        retention=Retention(*shares),
        funnel=Funnel(
            settings.world_funnel_view,
            settings.world_funnel_cart,
            settings.world_funnel_checkout,
            settings.world_funnel_purchase,
        ),
    )


def made_world(settings: Settings, customers: int | None = None, events_per_day: int | None = None) -> World:
    """The world of which records are to be made.

    Raises:
        UsageError: its load has no room for the visits of its customers.
    """
    from data_generator.world.visits import check_room

    world = world_of(settings)
    world = replace(
        world, customers=customers or world.customers, events_per_day=events_per_day or world.events_per_day
    )
    check_room(world)
    return world


def sink_and_books(settings: Settings, out: str | None, format_: Format) -> tuple[Sink, Ledger, ProfileFile]:
    """Where records go, Kafka unless files are to be written, and the books of it.

    Raises:
        UsageError: `out` is no place for files of this format.
        CrmError: Kafka or the store of the files does not answer.
    """
    ledger, load = books(settings, out)
    if out is not None:
        from data_generator.sinks.files import file_sink

        return file_sink(settings, out, format_), ledger, load
    from data_generator.sinks.kafka import KafkaSink
    from data_platform_core.kafka import client_settings

    return KafkaSink(client_settings(settings)), ledger, load


def books(settings: Settings, out: str | None) -> tuple[Ledger, ProfileFile]:
    """The ledger and the profile of the load.

    Files have theirs in their folder; those of a bucket lie with the stack's, by its address.

    Raises:
        UsageError: `out` is empty.
    """
    if out is not None and not out.strip():
        raise UsageError("--out is empty: name a folder, or s3://bucket/prefix")
    if out is None:
        folder = settings.ledger_file.parent
    elif out.startswith("s3://"):
        folder = settings.ledger_file.parent / quote(out.removeprefix("s3://").rstrip("/"), safe="")
    else:
        folder = Path(out)
    return Ledger(folder / "made.jsonl"), ProfileFile(folder / "load.jsonl")
