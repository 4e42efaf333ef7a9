"""Kafka as the roles expect it, an archive with `libs/`: made from the jars of the Maven repository.

At home the roles fetch Kafka's own archive; where only the package registries are reached, these are
the same jars in the same layout.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from data_platform_core.settings import Settings
from home_server.places import ROOT
from home_server.steps import Step
from home_server.toolchain import made_once, retrieve_jars

_IVY = ROOT / "home-server-infra" / "local" / "testbed.ivy.xml"
KAFKA_VERSIONS = ("3.9.1", "4.1.0")
"""What the migration starts from, and what it ends with; `kafka_versions` of the role holds the same."""


def archive_steps(settings: Settings) -> list[Step]:
    """The plan that makes the archives."""
    return [Step("kafka archives", lambda: _archives(settings), ("set up jars",))]


def kafka_archive(settings: Settings, version: str) -> Path:
    """Kafka of a version, as an archive on this machine."""
    return _folder(settings) / f"kafka_2.13-{version}.tgz"


def jmx_exporter(settings: Settings) -> Path:
    """The agent that shows Kafka's measurements to Prometheus."""
    return next((_folder(settings) / "jars" / "jmx-exporter").glob("jmx_prometheus_javaagent-*.jar"))


def _folder(settings: Settings) -> Path:
    return settings.home / "testbed" / "archives"


def _archives(settings: Settings) -> str | None:
    def make() -> None:
        jars = _folder(settings) / "jars"
        retrieve_jars(settings, _IVY, jars, "testbed")
        for version in KAFKA_VERSIONS:
            name = f"kafka_2.13-{version}"
            with tarfile.open(kafka_archive(settings, version), "w:gz", compresslevel=0) as archive:  # jars are
                for jar in sorted((jars / f"kafka-{version}").glob("*.jar")):
                    archive.add(jar, f"{name}/libs/{jar.name}")

    return made_once(settings, "testbed-archives", [_IVY, Path(__file__)], make)
