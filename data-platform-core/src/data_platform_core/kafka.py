"""How clients reach Kafka: in the clear on one's own machine, by name and password over TLS elsewhere."""

from __future__ import annotations

from typing import Any

from data_platform_core.settings import Settings


def client_settings(settings: Settings) -> dict[str, Any]:
    """Settings of a client of librdkafka (confluent-kafka).

    Raises:
        CrmError: a user is set and its password is not.
    """
    found: dict[str, Any] = {"bootstrap.servers": settings.kafka_address, "log_level": 0}
    if settings.kafka_ca:
        found["ssl.ca.location"] = str(settings.kafka_ca)
    if settings.kafka_username:
        found |= {
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.secret("kafka_password"),
        }
    return found | {"security.protocol": _protocol(settings)}


def java_settings(settings: Settings) -> dict[str, str]:
    """The same for a client of Java, such as Spark's.

    Raises:
        CrmError: a user is set and its password is not.
    """
    found = {"bootstrap.servers": settings.kafka_address, "security.protocol": _protocol(settings)}
    if settings.kafka_ca:
        found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(settings.kafka_ca)}
    if settings.kafka_username:
        name, password = (_quoted(word) for word in (settings.kafka_username, settings.secret("kafka_password")))
        login = "org.apache.kafka.common.security.scram.ScramLoginModule"
        found["sasl.mechanism"] = "SCRAM-SHA-512"
        found["sasl.jaas.config"] = f"{login} required username={name} password={password};"
    return found


def _protocol(settings: Settings) -> str:
    if settings.kafka_username:
        return "SASL_SSL"
    return "SSL" if settings.kafka_ca else "PLAINTEXT"


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
