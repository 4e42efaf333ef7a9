"""Settings come from the environment, with defaults that fit the local stack."""

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from data_platform_core.errors import CrmError, UsageError
from data_platform_core.settings import load_settings
from data_platform_core.warehouse import sqlalchemy_url, tls_words, warehouse_dsn


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    import os

    for name in [name for name in os.environ if name.startswith("CRM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CRM_HOME", str(tmp_path))


def test_one_offset_moves_the_whole_stack(monkeypatch):
    assert load_settings().kafka_address == "127.0.0.1:19092"
    monkeypatch.setenv("CRM_PORT_OFFSET", "20000")
    assert load_settings().kafka_address == "127.0.0.1:29092"
    assert load_settings().s3_url == "http://127.0.0.1:29000"


def test_the_environment_wins_over_the_credentials_file(monkeypatch, tmp_path):
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "credentials.env").write_text("CRM_DBT_PASSWORD=from-file\nCRM_PUBLISHER_PASSWORD=kept\n")
    monkeypatch.setenv("CRM_DBT_PASSWORD", "from-environment")
    settings = load_settings()
    assert settings.secret("dbt_password") == "from-environment"
    assert settings.secret("publisher_password") == "kept"
    assert "kept" not in repr(settings)


def test_a_missing_secret_says_how_to_get_it():
    with pytest.raises(CrmError, match="CRM_S3_SECRET_KEY is not set: start the stack"):
        load_settings().secret("s3_secret_key")


@pytest.mark.parametrize(
    ("name", "value"), [("CRM_PORT_OFFSET", "many"), ("CRM_SHOP_TIME_ZONE", "Asia/Seol"), ("CRM_LAKE_ROOT", "lake")]
)
def test_a_wrong_setting_is_named_with_its_value(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name}='{value}'"):
        load_settings()


@pytest.mark.parametrize("dsn", ["mysql://u:geheim@h/x", "postgresql://u:geheim@h:abc/x"])
def test_a_wrong_dsn_is_named_without_its_password(monkeypatch, dsn):
    monkeypatch.setenv("CRM_POSTGRES_DSN", dsn)
    with pytest.raises(UsageError, match="CRM_POSTGRES_DSN") as error:
        load_settings()
    assert "geheim" not in str(error.value)


def test_a_slip_of_the_hand_in_a_name_is_told(monkeypatch):
    monkeypatch.setenv("CRM_PORT_OFSET", "300")
    with pytest.raises(UsageError, match="no setting CRM_PORT_OFSET: CRM_PORT_OFFSET is meant"):
        load_settings()
    monkeypatch.delenv("CRM_PORT_OFSET")
    monkeypatch.setenv("CRM_WAREHOUSE_PORT", "5432")  # dbt's, of ours
    load_settings()


def test_how_the_server_is_verified_holds_for_every_role(monkeypatch):
    monkeypatch.setenv("CRM_POSTGRES_DSN", "postgresql://a:b@db.example/x?sslmode=verify-full&sslrootcert=/a/ca.pem")
    settings, said = load_settings(), {"sslmode": "verify-full", "sslrootcert": "/a/ca.pem"}
    assert dict(make_url(sqlalchemy_url(settings, "somebody", "secret")).query) == said
    assert said.items() <= conninfo_to_dict(warehouse_dsn(settings, "crm_dbt")).items()
    assert tls_words(settings) == said


def test_a_password_of_any_characters_reaches_the_database():
    url = make_url(sqlalchemy_url(load_settings(), "somebody", "p@s/s:w%rd"))
    assert (url.username, url.password, url.database) == ("somebody", "p@s/s:w%rd", "warehouse")
