"""What holds for every page: its code runs, its links lead somewhere, and its first sentence says what it is for."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import DOCS, PAGES, anchors, blocks, text_of
from tests.servers import ROOT
from tests.web import SECRET
from wsgisession import SessionManager

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def run_elsewhere(page: Path) -> bool:
    """Tell whether another test module names this page, and runs its blocks."""
    others = (path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__))
    return any(f'"{page.name}"' in path.read_text(encoding="utf-8") for path in others)


@pytest.mark.parametrize("page", [page for page in PAGES if not run_elsewhere(page)], ids=lambda page: page.stem)
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    world: dict[str, Any] = {"__name__": "shop", "session": SessionManager(secret=SECRET).open("", {})}
    for number, code in enumerate(blocks(page.name)):
        code = code.replace("/var/lib/shop/", f"{tmp_path}/")
        exec(compile(code, f"{page.name}, block {number}", "exec", dont_inherit=True), world)
    if (manager := world.get("manager")) is not None:
        manager.close()


def test_the_store_that_is_shown_keeps_the_contract(tmp_path):
    (tmp_path / "test_shown.py").write_text("\n\n".join(blocks("writing-a-store.md")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "test_shown.py"]
    shown = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                           check=False, timeout=100)  # fmt: skip
    assert shown.returncode == 0, shown.stdout
    assert re.search(r"\d\d passed", shown.stdout)


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    prose = re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


FIRST_SENTENCES = r"(This page|This is the documentation|wsgisession keeps|How to|What changed)"


@each_page
def test_the_first_sentence_says_what_the_page_is_for(page):
    first = re.split(r"^# .*\n+", page.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[1]
    assert re.match(FIRST_SENTENCES, first), first[:80]
    assert not first.startswith(("#", "|", "`")), "a page begins with a sentence"


@each_page
def test_a_page_does_not_consist_of_directives_only(page):
    prose = re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) > 30


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^([a-z-]+)$", text_of("index.md"), re.MULTILINE)
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


ORDER = [
    *("start", "flask", "django", "frameworks", "migrating", "users", "timeouts", "concurrency", "security", "stores"),
    *("deployment", "operating", "testing", "troubleshooting", "performance", "reference"),
]
"""The reader's questions, in the order in which they come up."""


def test_the_pages_are_in_the_order_of_the_readers_questions():
    listed = re.findall(r"^([a-z-]+)$", text_of("index.md"), re.MULTILINE)
    assert [page for page in listed if page in ORDER] == ORDER


def test_the_readme_links_to_every_page():
    linked = set(re.findall(r"\(docs/([a-z-]+)\.md\)", text_of("README.md")))
    assert linked >= {page.stem for page in DOCS.glob("*.md")} - {"index", "api", "writing-a-store"}


@each_page
def test_the_install_lines_name_this_library_and_not_its_namesake_on_pypi(page):
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = re.findall(r"pip install (?:--\S+ )*'?([\w./-]+)(?:\[([a-z,]+)\])?", page.read_text(encoding="utf-8"))
    assert page.name == "README.md" or "wsgisession" not in {name for name, _ in lines}
    for extra in ",".join(extras for name, extras in lines if name in (".", "./wsgisession")).split(","):
        assert not extra or setup.has_option("options.extras_require", extra), extra


@each_page
def test_the_yaml_of_a_page_can_be_parsed(page):
    for code in blocks(str(page.relative_to(ROOT)), "yaml"):
        assert yaml.safe_load(code)


@each_page
def test_the_commands_of_a_page_are_those_of_the_command_line(page):
    from wsgisession.cli.commands import main

    pattern = r"\bwsgisession (?!\|)([a-z]+)\b[^`\n]*(?:URL|sqlite:|redis:|postgresql:|mongodb:)"
    for command in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert command in main.commands, command


@pytest.mark.parametrize("duty", ["CSRF", "https", "HSTS", "again", "Call `login`", "revoke_user", "single sign-on"])
def test_security_60_the_guide_names_what_is_left_to_the_app(duty):
    assert duty in text_of("security.md").split("## What your app must do")[1]


LIMITS = [("AAL1", "your choice", "30 days"), ("AAL2", "1 hour", "24 hours"), ("AAL3", "15 minutes", "12 hours")]


@pytest.mark.parametrize(("level", "idle", "absolute"), LIMITS)
def test_security_28_the_guide_has_the_limits_of_the_standards(level, idle, absolute):
    (row,) = re.findall(rf"^\| NIST SP 800-63B-4, {level} \|(.*)$", text_of("timeouts.md"), re.MULTILINE)
    assert idle in row
    assert absolute in row


def test_the_map_of_the_code_names_files_that_exist():
    named = re.findall(r"`((?:wsgisession|tests|docs|demo_flask|benchmarks)/[\w./]+)`", text_of("CONTRIBUTING.md"))
    assert len(named) > 25
    assert [path for path in named if not (ROOT / path).exists()] == []
