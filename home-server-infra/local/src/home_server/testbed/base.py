"""What every test host starts from, made once: a Debian root file system and a mirror of packages.

Test hosts have no way out of their network: what the roles install comes from the mirror, as it does
in a home whose machines reach an internal mirror only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings
from home_server.places import setup_log
from home_server.steps import Step, run_command
from home_server.testbed.archives import archive_steps
from home_server.toolchain import made_once

_TOOLS = {  # program → Debian package
    "mmdebstrap": "mmdebstrap",
    "gpg": "gpg",  # with which it finds the key of the mirror
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "unshare": "util-linux",
}

_SUITE = "bookworm"
_BAKED = (  # in every host: what a cloud image has, and the Java runtime, whose installation takes 23 s a host
    "systemd,systemd-sysv,dbus,openssh-server,python3,python3-apt,sudo,iproute2,ca-certificates,apt-utils,cron,"
    "openjdk-17-jre-headless"
)
_MIRRORED = (  # what the roles install
    "acl",
    "chrony",
    "nftables",
    "postgresql",
    "prometheus",
    "prometheus-alertmanager",
    "prometheus-node-exporter",
    "prometheus-postgres-exporter",
    "python3-psycopg2",
    "unattended-upgrades",
)
_UNPACKED_FAST = (  # losing its power, a host loses processes, not what was written; and nobody reads there
    "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale")),
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Queue-Mode "access"',
)


def why_not() -> str | None:
    """Why this machine cannot have test hosts, or nothing where it can."""
    if os.geteuid() != 0:
        return "test hosts need root (network namespaces, mounts): run it as root"
    if not Path("/etc/debian_version").exists():
        return "test hosts are made of Debian packages: run it on Debian"
    if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True).returncode:
        return "this machine does not allow namespaces of one's own (unshare --mount --net --pid failed)"
    return None


def base_steps(settings: Settings) -> list[Step]:
    """The plan that makes a machine able to start test hosts."""
    return [
        Step("test bed tools", lambda: _tools(settings)),
        Step("test host image", lambda: _image(settings), ("test bed tools",)),
        *archive_steps(settings),
    ]


def image(settings: Settings) -> Path:
    """The root file system that hosts are laid over; never changed once made."""
    return settings.home / "testbed" / "image"


def mirror(settings: Settings) -> Path:
    """The folder of Debian packages that hosts install from."""
    return settings.home / "testbed" / "mirror"


def _tools(settings: Settings) -> str | None:
    lacking = sorted({package for program, package in _TOOLS.items() if not shutil.which(program)})
    if not lacking:
        return "there"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    log = setup_log(settings, "testbed")
    run_command(["apt-get", "update", "-q"], log, environment, "reading the package lists")
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *lacking]
    run_command(install, log, environment, f"installing {', '.join(lacking)}")
    return f"installed {', '.join(lacking)}"


def _image(settings: Settings) -> str | None:
    def make() -> None:
        log, environment = setup_log(settings, "testbed"), dict(os.environ)
        root, packages = image(settings), mirror(settings)
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(packages, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        packages.mkdir()
        where = _machines_mirror()
        bootstrap = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--skip=cleanup/apt/lists"]
        bootstrap += [*_UNPACKED_FAST, f"--include={_BAKED}", _SUITE, str(root), where]
        run_command(bootstrap, log, environment, "making the image of the test hosts")
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        inside = f"""
            set -e
            apt-get install -q -y --download-only --no-install-recommends {" ".join(_MIRRORED)}
            cd /var/cache/apt/archives
            only="-o APT::FTPArchive::MD5=false -o APT::FTPArchive::SHA1=false -o APT::FTPArchive::SHA512=false"
            apt-ftparchive $only packages . > Packages
            apt-ftparchive $only release . > Release
        """
        run_command(["chroot", str(root), "sh", "-c", inside], log, environment, "getting the packages of the roles")
        archives = root / "var" / "cache" / "apt" / "archives"
        for file in archives.iterdir():
            if file.is_file() and file.name != "lock":
                shutil.move(file, packages)
        _depersonalise(root)

    return made_once(settings, "testbed-image", [Path(__file__)], make)


def _depersonalise(root: Path) -> None:
    """Leave nothing in the image that a host must have for itself."""
    for path in ("etc/machine-id", "var/lib/dbus/machine-id", "etc/resolv.conf", "etc/apt/sources.list"):
        (root / path).unlink(missing_ok=True)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for item in (root / "var/lib/apt/lists").iterdir():
        if item.is_file():
            item.unlink()


def _machines_mirror() -> str:
    """The Debian mirror that the machine itself installs from.

    Raises:
        CrmError: its sources name none.
    """
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for file in sources:
        text = file.read_text(errors="replace") if file.is_file() else ""
        for pattern in (r"^URIs:\s*(\S+)", r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)"):
            for found in re.findall(pattern, text, re.MULTILINE):
                if "security" not in found and "debian" in found:
                    return str(found).split()[0]
    raise CrmError("/etc/apt names no mirror of Debian, from which the image of the test hosts could be made")
