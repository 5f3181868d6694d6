"""Blocks of code other than Python: commands exist, files can be parsed, URLs can be opened, and consoles are right."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks, text_of
from tests.servers import ROOT
from wsgisession.cli.commands import main
from wsgisession.stores import open_store

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LANGUAGES = {
    "console",
    "crontab",
    "ini",
    "js",
    "nginx",
    "python",
    "sh",
    "text",
    "toml",
    "yaml",
    "{eval-rst}",
    "{toctree}",
}
"""What is run or parsed: here, in test_pages, or in the test of a page; Sphinx checks those in braces."""


def commands_of(language: str) -> list[str]:
    """Return the lines of all blocks in a language, without comments."""
    lines = [
        line for page in PAGES for code in blocks(str(page.relative_to(ROOT)), language) for line in code.splitlines()
    ]
    return [line.partition("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


SHELL = commands_of("sh")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_has_a_language_that_some_test_runs_or_parses(page):
    opened = re.findall(r"^ *```([^\s`]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(opened) <= LANGUAGES


@pytest.mark.parametrize("command", SHELL)
def test_a_command_of_a_shell_is_one(command):
    checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    words = shlex.split(command, comments=True)
    assert words[0] in {"cd", "docker", "export", "gunicorn", "heroku", "make", "nox", "npm", "pip", ".venv/bin/python"}
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if words[0] == "cd":
        assert (ROOT / words[1]).is_dir()
    if words[1] == "-m":
        assert importlib.util.find_spec(words[2])


def test_every_command_in_a_line_of_text_is_a_target_a_session_or_a_module():
    makefile, noxfile = (ROOT / "Makefile").read_text(), (ROOT / "noxfile.py").read_text()
    prose = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for target in re.findall(r"`make ([a-z]+)", prose):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for session in re.findall(r"`nox -s ([a-z]+)", prose):
        assert f"def {session}(" in noxfile, session
    for module in re.findall(r"`(?:\.venv/bin/)?python -m ([\w.]+)", prose):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("page", ["stores.md", "deployment.md"])
def test_every_url_of_a_store_can_be_opened(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    urls = [line.split()[0] for code in blocks(page, "text") for line in code.splitlines() if "://" in line]
    assert len(urls) > 3
    for url in urls:
        open_store(
            url.replace("/var/lib/shop", str(tmp_path)).replace("/etc/ssl/ca.pem", str(ca_file(tmp_path)))
        ).close()


def ca_file(folder: Path) -> Path:
    import certifi

    file = folder / "ca.pem"
    file.write_text(Path(certifi.where()).read_text())
    return file


def test_the_toml_can_be_parsed_and_names_the_group_of_the_stores():
    (code,) = blocks("writing-a-store.md", "toml")
    assert "wsgisession.stores" in tomllib.loads(code)["project"]["entry-points"]


@pytest.mark.parametrize("page", ["deployment.md", "operating.md"])
def test_units_can_be_parsed_and_run_commands_that_exist(page):
    for unit in re.split(r"^# /etc", "\n".join(blocks(page, "ini")), flags=re.MULTILINE)[1:]:
        parser = ConfigParser(interpolation=None)
        parser.read_string(f"# /etc{unit}")
        assert parser.sections()
        for command in re.findall(r"/bin/wsgisession (\w+)", unit):
            assert command in main.commands


def test_the_crontab_runs_a_command_that_exists():
    (line,) = commands_of("crontab")
    assert re.search(r"wsgisession (\w+)", line)[1] in main.commands  # type: ignore[index]
    assert len(line.split()[:5]) == 5


def test_the_console_of_doctor_shows_its_steps():
    console = next(code for code in blocks("operating.md", "console") if " doctor " in code)
    shown = [line.split()[0] for line in console.splitlines()[1:] if not line.startswith(" ")]
    source = (ROOT / "tests" / "test_cli.py").read_text()
    assert shown == re.findall(r'"(\w+)"', re.findall(r"^STEPS = (.*)$", source, re.MULTILINE)[0])


def test_every_page_that_shows_a_console_is_tested():
    shown = {page.name for page in PAGES if blocks(str(page.relative_to(ROOT)), "console")}
    assert shown == {"README.md", "express.md", "observing.md", "operating.md"}


def test_the_code_of_the_demo_is_linked_and_starts():
    assert "demo_flask/app.py" in text_of("README.md")
