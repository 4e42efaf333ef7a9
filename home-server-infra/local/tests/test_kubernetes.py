"""The manifest and the image of the stream say what the local stack says."""

import re
from pathlib import Path

import yaml

from data_platform_core.settings import Settings

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "home-server-infra" / "kubernetes"
MANIFEST = yaml.safe_load((FOLDER / "stream.yaml").read_text())
IMAGE = (FOLDER / "Containerfile").read_text()
OF_A_MACHINE = {"spark.driver.host", "spark.driver.bindAddress"}


def local_settings():
    text = (ROOT / "home-server-infra" / "local" / "conf" / "spark-defaults.conf").read_text()
    lines = [line.split(None, 1) for line in text.splitlines() if line.startswith("spark.")]
    found = {name: value.strip() for name, value in lines}
    # what is rendered says where things are; $${…} is Hadoop's own
    kept = {name: value for name, value in found.items() if "${" not in value.replace("$${", "")}
    return {name: value.replace("$${", "${") for name, value in kept.items() if name not in OF_A_MACHINE}


def test_sparks_settings_are_those_of_the_local_stack():
    wanted = local_settings()
    assert len(wanted) >= 15
    told = MANIFEST["spec"]["sparkConf"]
    assert {name: told.get(name) for name in wanted} == wanted
    assert all(isinstance(value, str) for value in told.values())


def test_what_is_set_is_a_setting_and_secrets_are_references():
    for part in ("driver", "executor"):
        for variable in MANIFEST["spec"][part]["env"]:
            name = variable["name"]
            assert name.removeprefix("CRM_").lower() in Settings.model_fields, name
            is_secret = any(word in name for word in ("SECRET", "PASSWORD", "DSN"))
            assert ("valueFrom" in variable) == is_secret, name


def test_there_is_one_driver_and_it_is_started_again():
    assert (MANIFEST["kind"], MANIFEST["spec"]["restartPolicy"]["type"]) == ("SparkApplication", "Always")
    assert "instances" not in MANIFEST["spec"]["driver"]
    assert MANIFEST["spec"]["mainApplicationFile"].endswith("spark_jobs/streaming/__main__.py")


def test_the_image_copies_what_there_is():
    copied = re.findall(r"^COPY (\S+) ", IMAGE, re.M)
    assert len(copied) >= 5
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "--require-hashes" in IMAGE
    assert re.search(r"^USER 10001", IMAGE, re.M)
