"""`docs/your-own-data.md`, followed step by step on a copy of the repository and a stack of its own."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT, SMALL_WORLD, wait_for

from data_platform_core.settings import load_settings
from home_server.airflow_api import AirflowApi
from home_server.places import SOURCES

PAGE = (ROOT / "docs" / "your-own-data.md").read_text()
STEP = re.compile(r"(?:^`([^`\n]+)`\n\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
"""A block of the page, with the name of the file that stands over it."""


def steps():
    """The page's blocks in their order: kind, file and text. A second block under a name is of the same file."""
    file = None
    for named, kind, text in STEP.findall(PAGE):
        file = named or file
        yield kind, file, text


def changed(text, hunk):
    """A file's text after a block of lines that stay, go (-) and come (+)."""
    lines = hunk.splitlines()
    before, after = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
    assert text.count(before) == 1, before
    return text.replace(before, after)


def test_every_change_of_the_page_finds_its_place():
    texts = {}
    for kind, file, text in steps():
        if kind == "diff":
            texts[file] = changed(texts.get(file) or (ROOT / file).read_text(), text)
        elif kind != "sh":
            texts[file] = text
    assert len(texts) > 5


@pytest.mark.stack
@pytest.mark.drill
def test_the_page_adds_an_entity_that_goes_the_whole_way(crm, own_stack, monkeypatch, tmp_path):
    copy = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    sources = [source.replace(str(ROOT), str(copy), 1) for source in SOURCES]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sources))
    for name, value in SMALL_WORLD.items():
        monkeypatch.setenv(name, value)

    def sh(text):
        done = subprocess.run(
            ["bash", "-c", f"set -e\nsource env.sh\n{text}"], cwd=copy, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    crm("up")
    told = {}
    for kind, file, text in steps():
        if kind == "sh":
            if "timetravel" in text:
                wait_for(lambda: "34 rows" in sh("crm timetravel show reviews"), what="the reviews to land")
            if "audit" in text:
                airflow = AirflowApi(load_settings())
                (run, *_) = airflow.runs("crm_publish_and_model")
                assert airflow.wait_for_run("crm_publish_and_model", run["dag_run_id"]) == "success"
            told[text] = sh(text)
        elif kind == "diff":
            (copy / file).write_text(changed((copy / file).read_text(), text))
        else:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_text(text)
    (looked,) = [out for text, out in told.items() if "quarantine" in text]
    assert "out_of_range:stars" in looked
    (audit,) = [
        line.split() for out in told.values() for line in out.splitlines() if line.split()[:2] == ["reviews", "–"]
    ]
    assert audit == ["reviews", "–", "35", "35", "1", "34", "34", "34", "–", "yes"]
    sh("crm forget cus_0000000000000003")
    assert "29 rows" in sh("crm timetravel show reviews")
