"""Who owns the lake: the streaming application's lease, as others read it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from data_platform_core.layers import lease
from data_platform_core.s3 import lake_errors, read_object, s3_client
from data_platform_core.settings import Settings


@dataclass(frozen=True)
class Owner:
    """The application that may write the lake's tables."""

    pid: int
    host: str


def lake_owner(settings: Settings) -> Owner | None:
    """Who signed the lease within its time; None where nobody has it, or its holder signs no more.

    Raises:
        ComponentFailed: the store is out of reach.
    """
    with lake_errors(settings):
        text = read_object(s3_client(settings), lease(settings.lake_root))
    try:
        held = dict(json.loads(text or b"{}"))
        is_void = held.get("released", True) or time.time() - float(held["signed_at"]) >= float(held["seconds"])
        return None if is_void else Owner(int(held["pid"]), str(held["host"]))
    except (ValueError, TypeError, KeyError):
        return None  # nobody's words, as an application that takes the lease sees them
