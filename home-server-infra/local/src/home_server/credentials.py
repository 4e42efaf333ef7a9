"""Passwords of the local stack: generated once, into one file that only its owner can read."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

from data_platform_core.files import write_whole

_NAMES = (
    "s3_secret_key",
    "postgres_admin_password",
    "publisher_password",
    "dbt_password",
    "airflow_db_password",
    "airflow_admin_password",
    "airflow_jwt_secret",
)


def ensure_credentials(file: Path, given: Mapping[str, str], port_offset: int) -> bool:
    """Write the file if there is none; True where it was written now.

    A password that is given (set in the environment, say by `source env.sh` before a reset) is kept, so
    that a shell that does not have it set finds the same in the file.
    """
    if file.exists():
        return False
    made = {name: secrets.token_urlsafe(18) for name in _NAMES}
    made["airflow_fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    lines = [f"CRM_{name.upper()}={given.get(name, value)}" for name, value in made.items()]
    lines.insert(0, "# The passwords of this stack, valid on this machine's loopback only.")
    lines += ["# The ports it was first started on; the environment wins.", f"CRM_PORT_OFFSET={port_offset}"]
    write_private(file, "\n".join(lines) + "\n")
    return True


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text, 0o600)
