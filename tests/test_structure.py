"""The tree is the architecture: who may import whom, and where no package may be."""

import json
import re
import sys
import sysconfig
from importlib.metadata import entry_points
from pathlib import Path

import typer
import yaml

from data_platform_core.layers import TOPICS
from home_server.import_map import PACKAGES, modules_imported_by

ROOT = Path(__file__).parents[1]


def imports_of(file):
    return {module.split(".")[0] for module in modules_imported_by(file)}


def test_imports_point_towards_the_core():
    looked_at = 0
    for package, source in PACKAGES.items():
        for file in (source / package).rglob("*.py"):
            looked_at += 1
            foreign = imports_of(file) & set(PACKAGES) - {package, "data_platform_core"}
            assert not foreign, f"{file.relative_to(ROOT)} imports {foreign}"
    assert looked_at > 40
    assert set(PACKAGES) == {"data_platform_core", "data_generator", "spark_jobs", "home_server"}


def test_dbt_and_ansible_are_no_python_packages():
    for folder in ("dbt", "ansible"):
        assert list((ROOT / folder).rglob("__init__.py")) == []


def test_every_command_waits_for_its_own_part_only():
    """`crm` loads the part that names the command; one that no part names would load all of them."""
    program, points = typer.Typer(), entry_points(group="crm.commands")
    for register in {point.value: point for point in points}.values():
        register.load()(program)
    assert sorted(typer.main.get_command(program).commands) == sorted(point.name for point in points)


def test_the_world_is_pure():
    forbidden = {"time", "os", "random", "confluent_kafka", "requests", "httpx", "socket"}
    for file in (ROOT / "data-generator/src/data_generator/world").glob("*.py"):
        assert not imports_of(file) & forbidden, file.name
        assert not re.search(r"\.(now|today)\(", file.read_text()), file.name


def test_names_of_topics_and_tables_stand_in_one_file():
    for _package, source in PACKAGES.items():
        for file in source.rglob("*.py"):
            found = re.findall(
                r"""["'](?:crm\.(?:events|orders|products|profiles)|(?:bronze|silver|quarantine)/)""", file.read_text()
            )
            assert not found, f"{file.relative_to(ROOT)}: {found}"


def test_the_home_servers_topics_are_those_of_the_platform():
    settings = yaml.safe_load((ROOT / "ansible/inventories/home/group_vars/kafka.yml").read_text())
    assert [topic["name"] for topic in settings["kafka_topics"]] == list(TOPICS.values())


def test_every_role_says_what_it_does():
    roles = [path for path in (ROOT / "ansible/roles").iterdir() if path.is_dir()]
    assert len(roles) >= 6
    for role in roles:
        for part in ("README.md", "defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
            assert (role / part).exists(), f"{role.name}/{part}"


def test_collections_of_the_playbooks_are_those_that_are_installed_here():
    pinned = {
        collection["name"]: collection["version"]
        for collection in yaml.safe_load((ROOT / "ansible/collections/requirements.yml").read_text())["collections"]
    }
    installed = Path(sysconfig.get_path("purelib")) / "ansible_collections"
    for name, version in pinned.items():
        manifest = json.loads((installed / name.replace(".", "/") / "MANIFEST.json").read_text())
        assert manifest["collection_info"]["version"] == version, name
    tasks = " ".join(file.read_text() for file in (ROOT / "ansible/roles").rglob("*.yml"))
    used = set(re.findall(r"^ +((?:community|ansible)\.(?!builtin)\w+)\.\w+:", tasks, re.M))
    assert used | {"community.general"} == pinned.keys()  # whose filters, not modules, are used


def test_the_environment_is_read_at_the_entry_points_only():
    allowed = {"settings.py", "environment.py", "toolchain.py", "testing.py", "linting.py", "docs.py"}
    allowed |= {"base.py", "bed.py", "command.py"}  # of the test bed
    allowed |= {"work.py"}  # which sets, and does not read, how many threads its workers have
    for source in PACKAGES.values():
        for file in source.rglob("*.py"):
            if "os.environ" in file.read_text():
                assert file.name in allowed, file.relative_to(ROOT)


def test_locks_hold_hashes_and_no_address():
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    assert len(locks) == len(list((ROOT / "requirements").glob("*.in"))) >= 8
    for lock in locks:
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text, lock.name


def test_links_in_documents_lead_somewhere():
    documents = [p for p in ROOT.rglob("*.md") if ".crm" not in p.parts and "node_modules" not in p.parts]
    links = 0
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
            if "://" not in target:
                links += 1
                assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} → {target}"
    assert links > 3


def test_documents_have_no_gaps_left():
    for document in (p for p in ROOT.rglob("*.md") if ".crm" not in p.parts):
        assert not re.search(r"@[A-Z]+@|TODO|TBD", document.read_text()), document.relative_to(ROOT)


def test_decisions_have_unique_numbers_and_their_four_parts():
    decisions = sorted((ROOT / "docs/ai-context/decisions").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in decisions]
    assert len(set(numbers)) == len(numbers) > 3
    for path in decisions:
        for part in ("Status", "Context", "Decision", "Consequences"):
            assert f"## {part}" in path.read_text(), path.name


def test_python_is_new_enough():
    assert sys.version_info >= (3, 11)
