"""One typed settings object, read once at each entry point.

Every setting is an environment variable with the prefix `CRM_`. The defaults fit the local stack.
Secrets have no default: the local stack generates them into `credentials.env` in its folder, a file
that only its owner can read; elsewhere they are set in the environment, which wins over the file.
"""

from __future__ import annotations

import os
import re
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from data_platform_core.errors import CrmError, UsageError

USUAL_PORTS = {
    "kafka": 9092,
    "kafka-controller": 9093,
    "minio": 9000,
    "minio-console": 9001,
    "seaweedfs": 8333,
    "seaweedfs-s3-grpc": 8334,
    "seaweedfs-master": 9333,
    "seaweedfs-master-grpc": 9334,
    "seaweedfs-volume": 8380,
    "seaweedfs-volume-grpc": 8381,
    "seaweedfs-filer": 8888,
    "seaweedfs-filer-grpc": 8889,
    "postgres": 5432,
    "airflow": 8080,
    "airflow-triggerer-log": 8794,
    "airflow-worker-log": 8793,
    "spark-ui": 4040,
    "stream-metrics": 9249,
}


class Settings(BaseSettings):
    """Where things are, who may enter, and what world is made."""

    model_config = SettingsConfigDict(env_prefix="CRM_", extra="ignore", frozen=True)

    home: Path = Field(Path(".crm"), description="Everything installed: environments, jars, binaries.")
    stack: Path | None = Field(None, description="Data, logs and credentials of one stack; default HOME/stack.")
    port_offset: int = Field(10_000, ge=0, le=50_000, description="Added to each component's usual port.")

    kafka_bootstrap: str | None = Field(None, description="A Kafka of your own, host:port[,…].")
    kafka_username: str | None = Field(None, description="Comes by SCRAM-SHA-512 over TLS; without one, in the clear.")
    kafka_password: SecretStr | None = None
    kafka_ca: Path | None = Field(None, description="Whom to trust, as PEM, where the machine's own store does not do.")
    kafka_partitions: int = Field(6, ge=1, le=1000)
    kafka_retention_hours: int = Field(24 * 7, ge=1)

    s3_store: Literal["minio", "seaweedfs"] = Field("minio", description="Which S3 store the stack runs itself.")
    s3_endpoint: str | None = Field(None, description="An S3 store of your own, as a URL.")
    s3_access_key: str = "crm"
    s3_secret_key: SecretStr | None = None
    lake_root: str = Field("s3a://lake", pattern=r"^s3a://[a-z0-9.-]+(/[a-z0-9_.-]+)*$")

    postgres_dsn: str | None = Field(
        None,
        repr=False,
        pattern=r"^postgres(ql)?://\S+$",
        description="A PostgreSQL of your own: a role that may create roles and databases.",
    )
    postgres_admin_password: SecretStr | None = None
    publisher_password: SecretStr | None = None
    dbt_password: SecretStr | None = None
    airflow_db_password: SecretStr | None = None

    airflow_admin_password: SecretStr | None = None
    airflow_jwt_secret: SecretStr | None = None
    airflow_fernet_key: SecretStr | None = None

    alert_webhook: str | None = Field(
        None, pattern=r"^https?://\S+$", description="Is told by a POST of every task of Airflow that failed for good."
    )
    openlineage: str | None = Field(
        None, description="Where Airflow tells lineage: the URL of an OpenLineage endpoint, or a file."
    )

    spark_master: str = "local[*]"
    spark_driver_memory: str = "1200m"
    stream_trigger_seconds: float = Field(1.0, gt=0)
    stream_masters_trigger_seconds: float = Field(10.0, gt=0)
    stream_max_offsets_per_trigger: int = Field(200_000, ge=1)
    stream_future_tolerance_seconds: int = Field(
        600, ge=0, description="A record dated further ahead of its arrival is kept, and marked as future-dated."
    )
    stream_remembered_keys: int = Field(6_000_000, ge=0, description="Keys remembered an entity, to notice repeats.")
    stream_allow_data_loss: bool = Field(False, description="Go on where Kafka has deleted what was not read yet.")
    stream_give_up_seconds: float = Field(600, ge=0, description="How long a store may be out of reach.")
    stream_metrics_host: str = Field("127.0.0.1", description="Where Prometheus finds the stream's figures.")
    stream_requests_seconds: float = Field(2.0, gt=0, description="How often requests are looked for.")
    lake_retention_hours: float = Field(168, ge=1, description="How long files of old versions stay.")
    gate_law_budget: float = Field(0.02, ge=0, lt=1, description="Share of rows that may break a law between tables.")
    gate_quarantine_budget: float = Field(
        0.05, ge=0, lt=1, description="Share of a day's messages that may be in quarantine."
    )
    lake_lease_seconds: float = Field(20, gt=0, description="After so long without a sign, the lake has no owner.")
    fail_point: str | None = Field(None, description="Tests only: where this process kills itself.")

    world_seed: int = Field(42, ge=0, lt=2**63)
    world_opened_on: date = Field(date(2025, 11, 1), ge=date(2000, 1, 1), le=date(2100, 1, 1))
    world_customers: int = Field(20_000, ge=1, le=10_000_000, description="At the end of the shop's first year.")
    world_products: int = Field(200, ge=1, le=1_000_000)
    world_events_per_day: int = Field(20_000, ge=1, le=1_000_000_000, description="The mean of the first year.")
    world_growth_per_year: float = Field(0.25, ge=-0.9, le=2)
    world_known_share: float = Field(0.55, gt=0, le=1, description="Share of sessions whose customer is known.")
    world_retention_d1: float = Field(0.28, gt=0, le=1, description="Customers who come 1 day after they signed up.")
    world_retention_d7: float = Field(0.13, gt=0, le=1)
    world_retention_d30: float = Field(0.06, gt=0, le=1)
    world_funnel_view: float = Field(0.62, gt=0, le=1, description="Sessions that look at a product.")
    world_funnel_cart: float = Field(0.34, gt=0, le=1, description="Of these, sessions that fill a cart.")
    world_funnel_checkout: float = Field(0.55, gt=0, le=1, description="Of these, known customers' that check out.")
    world_funnel_purchase: float = Field(0.70, gt=0, le=1, description="Of these, those that buy.")
    shop_country: str = Field("KR", description="Whose holidays the world keeps, as ISO 3166-1; dim_date: Korea's.")
    shop_locale: str = Field("ko_KR", description="The language of its goods.")
    shop_time_zone: str = "Asia/Seoul"
    shop_currency: str = Field("KRW", pattern=r"^(KRW|USD|EUR|JPY)$")

    @field_validator("shop_time_zone")
    @classmethod
    def _is_a_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is not a time zone; write one as Asia/Seoul") from error
        return name

    @field_validator("shop_country")
    @classmethod
    def _is_a_country(cls, code: str) -> str:
        if not re.fullmatch(r"[A-Z]{2}", code):
            raise ValueError(f"{code!r} is not a country; write one as KR")
        return code

    @field_validator("postgres_dsn")
    @classmethod
    def _has_a_port(cls, dsn: str | None) -> str | None:
        try:
            _ = urlsplit(dsn).port if dsn else None
        except ValueError:
            raise ValueError("its port is no number of a port; write it as postgresql://role@host:5432") from None
        return dsn

    @field_validator("home", "stack", "kafka_ca")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().resolve() if path else path

    @property
    def stack_dir(self) -> Path:
        """The folder of the stack."""
        return self.stack or self.home / "stack"

    @property
    def credentials_file(self) -> Path:
        """Where the stack keeps its passwords."""
        return self.stack_dir / "credentials.env"

    @property
    def ledger_file(self) -> Path:
        """Where the ledger of what was made is."""
        return self.stack_dir / "ledger" / "made.jsonl"

    def port(self, name: str) -> int:
        """The port of a component of the local stack, by its name."""
        return USUAL_PORTS[name] + self.port_offset

    @property
    def kafka_address(self) -> str:
        """Where Kafka is: yours, or the stack's."""
        return self.kafka_bootstrap or f"127.0.0.1:{self.port('kafka')}"

    @property
    def s3_url(self) -> str:
        """Where the S3 store is: yours, or the stack's."""
        return self.s3_endpoint or f"http://127.0.0.1:{self.port(self.s3_store)}"

    @property
    def s3_bucket(self) -> str:
        """The bucket of the lake."""
        return self.lake_root.removeprefix("s3a://").split("/")[0]

    @property
    def airflow_url(self) -> str:
        """Where Airflow's UI and API are."""
        return f"http://127.0.0.1:{self.port('airflow')}"

    def secret(self, name: str) -> str:
        """The value of a secret.

        Raises:
            CrmError: it is not set.
        """
        value: SecretStr | None = getattr(self, name)
        if value is None:
            raise CrmError(
                f"CRM_{name.upper()} is not set: start the stack with `crm up`, which generates it into "
                f"{self.credentials_file}, or set it in the environment"
            )
        return value.get_secret_value()


_CREDENTIALS = "credentials.env"


def load_settings() -> Settings:
    """The settings from the environment and the stack's credentials file.

    Raises:
        UsageError: a setting has an impossible value, or a name that is nearly one's.
    """
    _check_names()
    home = Path(os.environ.get("CRM_HOME", ".crm"))
    stack = Path(os.environ.get("CRM_STACK", home / "stack"))
    try:
        return Settings(_env_file=stack / _CREDENTIALS)  # type: ignore[call-arg]
    except ValidationError as error:
        wrong = "; ".join(_told("_".join(map(str, e["loc"])), e["input"]) + f": {e['msg']}" for e in error.errors())
        raise UsageError(f"a setting is wrong: {wrong}") from None


def _told(name: str, value: object) -> str:
    """A setting as messages name it: without its value where that may hold a password."""
    is_secret = any(word in name for word in ("password", "secret", "dsn"))
    return f"CRM_{name.upper()}" + ("" if is_secret else f"={value!r}")


def _check_names() -> None:
    """Refuse a variable that is a setting's but for a slip of the hand: it would be passed over in silence."""
    known = {name.upper() for name in Settings.model_fields}
    for name in (word.removeprefix("CRM_") for word in os.environ if word.startswith("CRM_")):
        meant = get_close_matches(name, known, 1, 0.85) if name not in known else []
        if meant:
            raise UsageError(f"there is no setting CRM_{name}: CRM_{meant[0]} is meant, or unset it")
