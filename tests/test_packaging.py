"""The metadata says what is there. ``make wheel`` builds it, installs it into an empty environment and imports it."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages

from wsgisession import stores

ROOT = Path(__file__).parent.parent
METADATA = ConfigParser(interpolation=None)
METADATA.read(ROOT / "setup.cfg")
EXTRAS = METADATA["options.extras_require"]


def test_every_package_is_in_the_distribution():
    there = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "wsgisession").rglob("*.py")}
    include = METADATA["options.packages.find"]["include"].split()
    assert METADATA["options"]["packages"] == "find:"
    assert set(find_packages(str(ROOT), include=include)) == there


def test_the_types_are_in_the_distribution():
    assert METADATA["options.package_data"]["wsgisession"] == "py.typed"
    assert (ROOT / "wsgisession" / "py.typed").is_file()


def test_what_is_stated_in_setup_cfg_is_not_stated_again():
    assert "[project" not in (ROOT / "pyproject.toml").read_text()
    assert not [section for section in METADATA if section.startswith(("tool:", "mypy", "flake8", "coverage"))]


def test_the_oldest_python_is_the_same_everywhere():
    oldest = METADATA["options"]["python_requires"].removeprefix(">=")
    settings = (ROOT / "pyproject.toml").read_text()
    assert f'python_version = "{oldest}"' in settings
    assert f'target-version = "py{oldest.replace(".", "")}"' in settings
    classifiers = re.findall(r":: (3\.\d+)$", METADATA["metadata"]["classifiers"], re.MULTILINE)
    assert classifiers[0] == oldest


def test_the_extra_all_is_every_extra_of_a_user():
    of_a_developer = {"all", "test", "check", "mutants", "docs", "demo", "bench"}
    (named,) = re.findall(r"\[(.*)\]", EXTRAS["all"])
    assert set(named.split(",")) == set(EXTRAS) - of_a_developer


def test_the_extras_that_open_store_names_exist():
    assert {extra for _, _, extra in stores._BUILT_IN.values() if extra} <= set(EXTRAS)
