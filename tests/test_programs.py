"""A test is skipped only for want of a program on the list, and the run says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs
from tests.servers import ROOT

CONFTEST = """
from tests.programs import Skips

def pytest_configure(config):
    config.pluginmanager.register(Skips())
"""


def run(folder: Path, test: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(test)
    own = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        cwd=ROOT, env={**own, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


WITHOUT_NGINX = """
from tests.programs import needed

def test_nginx():
    needed("nginx")
"""
BECAUSE_IT_RAINS = "import pytest\n\ndef test_outside():\n    pytest.skip('it rains')\n"


@pytest.mark.parametrize("environment", [{}, {"CI": "true"}], ids=["here", "in CI"])
def test_a_missing_program_is_named_at_the_end_of_the_run(tmp_path, environment):
    done = run(tmp_path, WITHOUT_NGINX, PATH=str(tmp_path), **environment)
    assert done.returncode == 0, done.stdout
    assert "nginx: 1 skipped (apt-get install nginx-light)" in done.stdout


def test_a_run_with_all_programs_says_so(tmp_path):
    done = run(tmp_path, "def test_it():\n    pass\n")
    assert done.returncode == 0, done.stdout
    assert "No test was skipped for want of a program (they are a browser, nginx, pgbouncer," in done.stdout


def test_any_other_skip_fails_the_run_in_ci(tmp_path):
    done = run(tmp_path, BECAUSE_IT_RAINS, CI="true")
    assert done.returncode == 1, done.stdout
    assert "test_it.py::test_outside: it rains" in done.stdout


def test_a_file_that_is_skipped_fails_the_run_in_ci(tmp_path):
    done = run(
        tmp_path, "import pytest\npytest.importorskip('no_such_module')\n\ndef test_it():\n    pass\n", CI="true"
    )
    assert done.returncode != 0, done.stdout
    assert "no_such_module" in done.stdout.partition("CI does not allow")[2]


def test_a_developer_may_skip_what_they_like(tmp_path):
    done = run(tmp_path, BECAUSE_IT_RAINS)
    assert done.returncode == 0, done.stdout


def test_a_program_is_found_under_any_of_its_names(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.found("a browser") is None
    program = tmp_path / "google-chrome"
    program.write_text("")
    program.chmod(0o755)
    assert programs.needed("a browser") == str(program)
