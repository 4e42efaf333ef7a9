"""Lays the first stone on a machine that has git, make and Python 3.11 or newer: the `crm` command.

Only the standard library is used here. Everything goes below one folder, `$CRM_HOME` (`.crm`).
Run again, it does only what is missing; a lock file that changed is installed anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("CRM_HOME") or ROOT / ".crm").expanduser().resolve()
PACKAGES = ("data-platform-core", "data-generator", "spark_jobs", "home-server-infra/local")


def main() -> None:
    """Install uv, the environment `platform` and the `crm` command, each from its lock."""
    _check_machine()
    uv = _install_uv()
    _install_platform(uv)
    print(HOME / "bin" / "crm")


def _check_machine() -> None:
    if sys.version_info < (3, 11):
        _stop(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: "
            "apt-get install python3.11 python3.11-venv"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        _stop("this Python has no venv: apt-get install python3-venv")
    HOME.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(HOME).free / 2**30
    if free < 6 and not (HOME / "stamps" / "platform").exists():
        _stop(
            f"the disk of {HOME} is nearly full: {free:.1f} GiB are free and the set-up needs 6; "
            "free some or set CRM_HOME"
        )


def _install_uv() -> Path:
    lock = ROOT / "requirements" / "uv.txt"
    folder = HOME / "envs" / "uv"
    if not _is_fresh("uv", lock):
        _say("installing uv")
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        _run(
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
            str(lock),
        )
        _stamp("uv", lock)
    return folder / "bin" / "uv"


def _install_platform(uv: Path) -> None:
    lock = ROOT / "requirements" / "platform.txt"
    inputs = (Path(__file__), lock, *(ROOT / package / "pyproject.toml" for package in PACKAGES))
    folder = HOME / "envs" / "platform"
    if _is_fresh("platform", *inputs):
        return
    _say("installing the environment platform")
    environment = os.environ | {"UV_CACHE_DIR": str(HOME / "cache" / "uv"), "UV_LINK_MODE": "hardlink"}
    python = str(folder / "bin" / "python")
    _run(str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder), env=environment)
    _run(str(uv), "pip", "sync", "--quiet", "--require-hashes", "--python", python, str(lock), env=environment)
    editable = [word for package in PACKAGES for word in ("-e", str(ROOT / package))]
    _run(
        str(uv),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--offline",
        "--python",
        python,
        *editable,
        env=environment,
    )
    wrapper = HOME / "bin" / "crm"
    wrapper.parent.mkdir(exist_ok=True)
    # where it is set, each of our commands would compile what it imports anew: a second of each
    unset = "unset PYTHONDONTWRITEBYTECODE"
    wrapper.write_text(f'#!/bin/sh\nexport CRM_HOME="{HOME}"\n{unset}\nexec "{folder}/bin/crm" "$@"\n')
    wrapper.chmod(0o755)
    _stamp("platform", *inputs)


def _is_fresh(name: str, *inputs: Path) -> bool:
    stamp = HOME / "stamps" / name
    return stamp.exists() and stamp.read_text() == _fingerprint(*inputs)


def _stamp(name: str, *inputs: Path) -> None:
    stamp = HOME / "stamps" / name
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(_fingerprint(*inputs))


def _fingerprint(*inputs: Path) -> str:
    words = sys.version.split()[0].encode() + str(HOME).encode() + b"".join(p.read_bytes() for p in inputs)
    return hashlib.sha256(words).hexdigest()


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    if subprocess.run(command, env=env, stdout=sys.stderr).returncode:
        _stop(
            f"`{' '.join(command[:4])} …` failed: its message stands above; "
            "if a download broke off, run the same command again"
        )


def _say(text: str) -> None:
    print(f"crm: {text} …", file=sys.stderr, flush=True)


def _stop(message: str) -> None:
    print(f"crm: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _stop(f"{error.filename or HOME}: {error.strerror}; if the disk is full, free some or set CRM_HOME")
