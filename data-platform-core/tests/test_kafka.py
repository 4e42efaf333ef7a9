"""Settings of Kafka clients; that a cluster accepts them is shown by the drills of ansible/tests."""

import pytest

from data_platform_core.errors import CrmError
from data_platform_core.kafka import client_settings, java_settings
from data_platform_core.settings import Settings


def test_the_stacks_own_kafka_is_reached_in_the_clear():
    settings = Settings(kafka_bootstrap="127.0.0.1:19092")
    assert client_settings(settings)["security.protocol"] == "PLAINTEXT"
    assert java_settings(settings) == {"bootstrap.servers": "127.0.0.1:19092", "security.protocol": "PLAINTEXT"}


def test_a_user_comes_over_tls_only():
    settings = Settings(kafka_bootstrap="k:9092", kafka_username="spark", kafka_password='a"b\\c', kafka_ca="/ca.pem")
    assert client_settings(settings) | {"log_level": 0} == {
        "bootstrap.servers": "k:9092",
        "log_level": 0,
        "ssl.ca.location": "/ca.pem",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "spark",
        "sasl.password": 'a"b\\c',
        "security.protocol": "SASL_SSL",
    }
    assert java_settings(settings)["sasl.jaas.config"].endswith(r'username="spark" password="a\"b\\c";')


def test_a_user_without_a_password_is_named():
    with pytest.raises(CrmError, match="CRM_KAFKA_PASSWORD is not set"):
        client_settings(Settings(kafka_username="spark"))
