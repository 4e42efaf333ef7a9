"""Where things are below the repository and below `CRM_HOME`."""

from __future__ import annotations

from pathlib import Path

from data_platform_core.settings import Settings

ROOT = Path(__file__).resolve().parents[4]
CONF = ROOT / "home-server-infra" / "local" / "conf"
REQUIREMENTS = ROOT / "requirements"
SOURCES = tuple(
    str(ROOT / folder)
    for folder in ("data-platform-core/src", "data-generator/src", "spark_jobs/src", "home-server-infra/local/src")
)
"""Where this checkout's packages are."""
IVY = ROOT / "home-server-infra" / "local" / "ivy.xml"
CONDITIONAL = tuple(sorted((ROOT / "spark_jobs" / "src" / "spark_jobs" / "conditional").glob("*.java")))
"""Java of ours, compiled at set-up."""


def env_bin(settings: Settings, environment: str, program: str) -> str:
    """A program of one of the installed environments."""
    return str(settings.home / "envs" / environment / "bin" / program)


def jars(settings: Settings, component: str) -> Path:
    """The folder of a component's jars."""
    return settings.home / "jars" / component


def log_file(stack: Path, name: str) -> Path:
    """The log of a component of the stack in a folder."""
    return stack / "logs" / f"{name}.log"


def setup_log(settings: Settings, piece: str) -> Path:
    """The log of a piece's set-up."""
    return settings.home / "logs" / f"setup-{piece}.log"


def data_dir(settings: Settings, name: str) -> Path:
    """The data of a component of a stack."""
    return settings.stack_dir / "data" / name
