"""A small world for the tests."""

from datetime import date

import pytest

from data_generator.world.config import World


@pytest.fixture(scope="session")
def world():
    return World(
        seed=7,
        opened_on=date(2026, 1, 1),
        customers=2000,
        products=40,
        events_per_day=3000,
        time_zone="Asia/Seoul",
        currency="KRW",
    )
