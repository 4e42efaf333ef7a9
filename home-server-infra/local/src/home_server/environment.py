"""The environment in which the stack's programs run, and which `crm env` prints for a shell."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from pydantic import SecretStr

from data_platform_core.settings import Settings
from data_platform_core.warehouse import AIRFLOW, sqlalchemy_url, tls_words, warehouse_address
from home_server.places import ROOT, SOURCES, data_dir
from home_server.toolchain import java_home, spark_home


def settings_environment(settings: Settings) -> dict[str, str]:
    """Every setting that is set, as `CRM_…` variables."""
    found = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            found[f"CRM_{name.upper()}"] = text
    return found | {"CRM_STACK": str(settings.stack_dir), "CRM_HOME": str(settings.home)}


def tool_environment(settings: Settings) -> dict[str, str]:
    """What dbt, Airflow, Spark and Ansible need to be typed as their users know them."""
    host, port = warehouse_address(settings)
    return {
        "JAVA_HOME": str(java_home(settings)),
        "SPARK_HOME": str(spark_home(settings)),
        "SPARK_LOCAL_IP": "127.0.0.1",  # its pages would be open to all otherwise
        "SPARK_CONF_DIR": str(settings.stack_dir / "conf" / "spark"),
        "PYSPARK_PYTHON": str(settings.home / "envs" / "spark" / "bin" / "python"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"),
        "CRM_WAREHOUSE_HOST": host,
        "CRM_WAREHOUSE_PORT": str(port),
        **{f"PG{name.upper()}": value for name, value in tls_words(settings).items()},  # dbt's, by libpq
        # dbt keeps what is named so out of its logs
        "DBT_ENV_SECRET_WAREHOUSE_PASSWORD": settings.secret("dbt_password"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
        "GX_ANALYTICS_ENABLED": "False",
        "DO_NOT_TRACK": "1",
        **airflow_environment(settings),
    }


def airflow_environment(settings: Settings) -> dict[str, str]:
    """Airflow's configuration."""
    home = data_dir(settings, "airflow")
    words = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(ROOT / "dags" / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__FERNET_KEY": settings.secret("airflow_fernet_key"),
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "CORE__DEFAULT_TIMEZONE": settings.shop_time_zone,
        "DATABASE__SQL_ALCHEMY_CONN": sqlalchemy_url(
            settings, AIRFLOW, settings.secret("airflow_db_password"), database="airflow"
        ),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(settings.port("airflow")),
        "API__BASE_URL": settings.airflow_url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": settings.secret("airflow_jwt_secret"),
        "API_AUTH__JWT_SECRET": settings.secret("airflow_jwt_secret"),
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(settings.port("airflow-triggerer-log")),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(settings.port("airflow-worker-log")),
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "OPENLINEAGE__DISABLED": str(settings.openlineage is None),
        "OPENLINEAGE__NAMESPACE": "crm",
        "OPENLINEAGE__TRANSPORT": _lineage_transport(settings.openlineage),
        "COSMOS__ENABLE_TELEMETRY": "False",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {"AIRFLOW_HOME": str(home), "SCARF_NO_ANALYTICS": "true"} | {
        f"AIRFLOW__{name}": value for name, value in words.items()
    }


def _lineage_transport(target: str | None) -> str:
    if target is None:
        return ""
    if target.startswith(("http://", "https://")):
        return json.dumps({"type": "http", "url": target})
    return json.dumps({"type": "file", "log_file_path": str(Path(target).absolute()), "append": True})


def process_environment(settings: Settings) -> dict[str, str]:
    """The whole environment of a program of the stack."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "AIRFLOW_", "PYTHON"))}
    path = f"{settings.home / 'bin'}:{os.environ.get('PATH', '')}"
    # this checkout's code runs the stack, though another one may have installed the environments
    own = {"PATH": path, "PYTHONPATH": os.pathsep.join(SOURCES)}
    return kept | settings_environment(settings) | tool_environment(settings) | own


def admin_dsn(settings: Settings) -> str:
    """The DSN of the role that may create roles and databases."""
    if settings.postgres_dsn:
        return settings.postgres_dsn
    password = quote(settings.secret("postgres_admin_password"), safe="")
    return f"postgresql://postgres:{password}@127.0.0.1:{settings.port('postgres')}/postgres?sslmode=disable"
