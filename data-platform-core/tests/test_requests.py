"""Whoever waits for a request is told where nobody is at it."""

import pytest

from data_platform_core import requests
from data_platform_core.errors import ComponentFailed


class Warehouse:
    """A connection to one in which the request is as it was left."""

    def execute(self, *_):
        return self

    def fetchone(self):
        return ("running", None, None, None)

    def commit(self):
        pass


def test_an_application_that_died_at_a_request_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(requests, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(requests, "_NOT_TAKEN_SECONDS", 1.0)
    with pytest.raises(ComponentFailed, match="nobody is at request 7: the streaming application has ended"):
        requests.wait(Warehouse(), 7, 60, is_alive=lambda: False)
    with pytest.raises(ComponentFailed, match="is not done after 2 s"):
        requests.wait(Warehouse(), 7, 2, is_alive=lambda: True)
