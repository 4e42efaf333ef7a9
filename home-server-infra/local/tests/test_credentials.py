"""Passwords are made once and belong to their owner."""

import stat

from home_server.credentials import ensure_credentials, write_private


def test_passwords_are_generated_once_and_private(tmp_path):
    file = tmp_path / "stack" / "credentials.env"
    assert ensure_credentials(file, {}, 10_000)
    first = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not ensure_credentials(file, {}, 10_000)
    assert file.read_text() == first
    assert ensure_credentials(tmp_path / "other" / "credentials.env", {}, 10_000)
    assert (tmp_path / "other" / "credentials.env").read_text() != first


def test_a_private_file_is_private_even_where_one_stood_before(tmp_path):
    file = tmp_path / "x"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)


def test_a_password_that_is_set_already_is_kept(tmp_path):
    file = tmp_path / "credentials.env"
    ensure_credentials(file, {"dbt_password": "from-the-shell"}, 30_000)
    assert "CRM_DBT_PASSWORD=from-the-shell\n" in file.read_text()
    assert "CRM_PORT_OFFSET=30000\n" in file.read_text()
