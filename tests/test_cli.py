"""The command line: what it prints and how it exits, on real stores."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.servers import ROOT
from wsgisession import SessionManager
from wsgisession.cli import main

STEPS = ["connect", "create", "read", "replace", "race", "delete", "latency"]


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


def lines(*arguments: str, **options: Any) -> list[Any]:
    result = run(*arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def fill(url: str, *users: str, **options: Any) -> list[str]:
    """Store a session for each user; return the handles."""
    manager = SessionManager(secret=secrets.token_bytes(32), store=url, **options)
    handles = []
    for user in users:
        session = manager.open("", None)
        session.login(user, cart=["\x1b[2J"])
        manager.commit(session, scheme="https", host="shop.example")
        handles.append(session.handle)
    manager.close()
    return handles


def test_a_secret_is_new_each_time_and_good_enough():
    first, second = run("secret").output.strip(), run("secret").output.strip()
    assert first != second
    SessionManager(secret=first, encryption_key=second)


def test_it_lists_all_sessions_or_those_of_a_user(sqlite_url):
    handles = fill(sqlite_url, "ada", "ada", "bob")
    assert {one["handle"] for one in lines("list", sqlite_url)} == set(handles)
    assert {one["handle"] for one in lines("list", sqlite_url, "--user", "bob")} == {handles[2]}
    assert handles[0] in run("list", sqlite_url).output


def test_it_shows_a_session_without_steering_the_terminal(sqlite_url):
    (handle,) = fill(sqlite_url, "ada\x07")
    assert "\x07" not in run("list", sqlite_url).output
    (shown,) = lines("show", sqlite_url, handle)
    assert shown["data"]["cart"] == ["\x1b[2J"]
    assert "\x1b" not in run("show", sqlite_url, handle).output


def test_a_handle_without_a_session_is_exit_code_1(sqlite_url):
    assert run("show", sqlite_url, "none").exit_code == 1
    assert run("revoke", sqlite_url, "none").exit_code == 1


def test_it_revokes_one_session(sqlite_url):
    handles = fill(sqlite_url, "ada", "ada")
    assert lines("revoke", sqlite_url, handles[0]) == [{"revoked": 1}]
    assert [one["handle"] for one in lines("list", sqlite_url)] == [handles[1]]


def test_it_asks_before_it_revokes_all_sessions_of_a_user(sqlite_url):
    fill(sqlite_url, "ada", "ada")
    assert run("revoke", sqlite_url, "--user", "ada", input="n\n").exit_code == 1
    assert len(lines("list", sqlite_url)) == 2
    assert lines("revoke", sqlite_url, "--user", "ada", "--yes") == [{"revoked": 2}]


def test_what_cannot_be_right_is_exit_code_2(sqlite_url):
    assert run("stats", "nothing://").exit_code == 2
    assert run("revoke", sqlite_url).exit_code == 2
    assert run("init", sqlite_url, "--print-sql").exit_code == 2


def test_a_store_that_is_down_is_exit_code_1_without_its_password():
    result = run("stats", "redis://:hidden@127.0.0.1:1/0")
    assert result.exit_code == 1
    assert "hidden" not in result.output


@pytest.mark.parametrize("by", ["file", "environment"])
def test_encrypted_sessions_are_read_with_their_key(sqlite_url, tmp_path, by):
    key = secrets.token_urlsafe(32)
    (handle,) = fill(sqlite_url, "ada", encryption_key=key)
    (tmp_path / "key").write_text(f"{key}\n")
    options = ["--encryption-key-file", str(tmp_path / "key")] if by == "file" else []
    environment = {} if by == "file" else {"WSGISESSION_ENCRYPTION_KEY": key}
    (found,) = lines("list", sqlite_url, "--user", "ada", *options, env=environment)
    assert found["handle"] == handle


def test_sessions_that_cannot_be_read_are_counted_and_not_named(sqlite_url, caplog):
    (handle,) = fill(sqlite_url, "ada", encryption_key=secrets.token_bytes(32))
    result = run("list", sqlite_url)
    assert "left out as unreadable: 1;" in result.output
    assert handle not in result.output + caplog.text


def test_the_sql_of_postgresql_is_printed_and_not_run():
    result = run("init", "postgresql://127.0.0.1:1/shop?table=visits", "--print-sql")
    assert result.exit_code == 0
    assert 'CREATE TABLE IF NOT EXISTS "visits"' in result.output


def test_without_click_it_says_what_to_install():
    code = "import sys; sys.modules['click'] = None; import wsgisession.cli"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert told.returncode == 1
    assert told.stderr == "the command line needs the package 'click': pip install 'wsgisession[cli]'\n"


def test_every_store_is_served(store_url):
    assert run("init", store_url).exit_code == 0
    is_shared = not store_url.startswith("memory")
    handles = fill(store_url, "ada", "bob")
    assert [one["step"] for one in lines("doctor", store_url)] == STEPS
    (counted,) = lines("stats", store_url)
    assert counted["records"] == counted["with_user"] == (2 if is_shared else 0)
    assert {one["handle"] for one in lines("list", store_url)} == (set(handles) if is_shared else set())
    assert lines("purge", store_url, "--limit", "5") == [{"purged": 0}]
