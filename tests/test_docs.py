"""Every block of code in the documents runs, every link leads somewhere, and what they say of numbers is so."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import ROOT
from tests.web import SECRET
from wsgisession import SessionManager

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def own_tests(page: Path) -> list[Path]:
    """Test modules that name this page, and run its blocks themselves."""
    texts = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)}
    return [path for path, text in texts.items() if f'"{page.name}"' in text and "docs" in text]


@pytest.mark.parametrize("page", [page for page in PAGES if not own_tests(page)], ids=lambda page: page.stem)
def test_its_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    world: dict[str, Any] = {"__name__": "shop", "session": SessionManager(secret=SECRET).open("", {})}
    for number, code in enumerate(blocks(page, "python")):
        exec(
            compile(
                code.replace("/var/lib/shop/", f"{tmp_path}/"),
                f"{page.name}, block {number}",
                "exec",
                dont_inherit=True,
            ),
            world,
        )
    if (manager := world.get("manager")) is not None:
        manager.close()


def test_the_store_that_is_shown_keeps_the_contract(tmp_path):
    (tmp_path / "test_shown.py").write_text("\n\n".join(blocks(DOCS / "writing-a-store.md", "python")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "test_shown.py"]
    shown = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                           check=False, timeout=100)  # fmt: skip
    assert shown.returncode == 0, shown.stdout
    assert re.search(r"\d\d passed", shown.stdout)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_page_is_in_the_table_of_contents():
    (listed,) = [re.findall(r"^([a-z-]+)$", (DOCS / "index.md").read_text(), re.MULTILINE)]
    assert sorted(listed) == sorted(page.stem for page in PAGES if page.stem != "index")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_what_it_installs_is_this_library_and_not_its_namesake_on_pypi(page):
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = re.findall(r"pip install '?([\w.]+)(?:\[([a-z,]+)\])?", page.read_text())
    assert "wsgisession" not in {name for name, _ in installed}
    for extra in ",".join(extras for name, extras in installed if name == ".").split(","):
        assert not extra or setup.has_option("options.extras_require", extra), extra


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_yaml_is_yaml(page):
    for code in blocks(page, "yaml"):
        assert yaml.safe_load(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_are_those_of_the_command_line(page):
    from wsgisession.cli.commands import main

    for command in re.findall(
        r"\bwsgisession (?!\|)([a-z]+)\b[^`\n]*(?:URL|sqlite:|redis:|postgresql:|mongodb:)", page.read_text()
    ):
        assert command in main.commands, command


@pytest.mark.parametrize(
    "duty", ["CSRF", "https", "HSTS", "Ask again", "Call `login`", "revoke_user", "single sign-on"]
)
def test_security_60_the_guide_names_what_is_left_to_the_app(duty):
    assert duty in (DOCS / "security.md").read_text().split("## What the app must do")[1]


LIMITS = [("AAL1", "your choice", "30 days"), ("AAL2", "1 hour", "24 hours"), ("AAL3", "15 minutes", "12 hours")]


@pytest.mark.parametrize(("level", "idle", "absolute"), LIMITS)
def test_security_28_the_guide_has_the_limits_of_the_standards(level, idle, absolute):
    (row,) = re.findall(rf"^\| NIST SP 800-63B-4, {level} \|(.*)$", (DOCS / "timeouts.md").read_text(), re.MULTILINE)
    assert idle in row
    assert absolute in row
