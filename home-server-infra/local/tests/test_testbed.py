"""Where there can be no test hosts, that is said; what the bed does where there can is shown in ansible/tests."""

import os

import pytest
from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings
from home_server import testing
from home_server.testbed import base
from home_server.testbed.bed import Bed


def test_without_root_the_playbooks_tests_are_skipped_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(testing, "run_steps", lambda *_: None)
    monkeypatch.setattr(testing, "run_in_bed", lambda *_: pytest.fail("a bed was started"))
    console = Console(record=True, width=200)
    testing.run_infra_tests(Settings(home=tmp_path), console, False, ())
    assert "skipped: test hosts need root" in console.export_text()


def test_a_bed_is_only_to_be_had_within_one(monkeypatch, tmp_path):
    monkeypatch.delenv("CRM_BED", raising=False)
    with pytest.raises(CrmError, match="crm testbed -- <command>"):
        Bed(Settings(home=tmp_path))


def test_the_machines_own_mirror_is_found(monkeypatch):
    assert base._machines_mirror().startswith("http")
