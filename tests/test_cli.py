"""The command line: output and exit codes, on real stores."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.environs import request
from tests.servers import ROOT
from wsgisession import SessionManager
from wsgisession.cli.commands import main
from wsgisession.stores import Record, open_store

STEPS = ["connect", "create", "read", "replace", "race", "delete", "index", "latency"]


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


def lines(*arguments: str, **options: Any) -> list[Any]:
    result = run(*arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def fill(url: str, *users: str, **options: Any) -> list[str]:
    """Store a session for each user, and return the handles."""
    manager = SessionManager(secret=secrets.token_bytes(32), store=url, **options)
    client = ("192.0.2.7", "curl/8") if manager._services.track_client else None
    handles = []
    for user in users:
        session = manager.open("", None)
        session.login(user, cart=["\x1b[2J"])
        manager.commit(session, request(scheme="https", host="shop.example", client=client))
        handles.append(session.handle)
    manager.close()
    return handles


def test_a_secret_is_new_each_time_and_good_enough():
    first, second = run("secret").output.strip(), run("secret").output.strip()
    assert first != second
    SessionManager(secret=first, encryption_key=second)


def test_list_prints_all_sessions_or_one_users(sqlite_url):
    handles = fill(sqlite_url, "ada", "ada", "bob")
    assert {one["handle"] for one in lines("list", sqlite_url)} == set(handles)
    assert {one["handle"] for one in lines("list", sqlite_url, "--user", "bob")} == {handles[2]}
    assert handles[0] in run("list", sqlite_url).output


def test_what_a_client_wrote_reaches_the_terminal_as_text_only(sqlite_url):
    (handle,) = fill(sqlite_url, "ada\x07")
    assert "\x07" not in run("list", sqlite_url).output
    (shown,) = lines("show", sqlite_url, handle)
    assert shown["data"]["cart"] == ["\x1b[2J"]
    assert "\x1b" not in run("show", sqlite_url, handle).output


def test_show_prints_indented_data_without_escapes(sqlite_url):
    (handle,) = fill(sqlite_url, "zoë", track_client=True)
    heading, *_, end = run("show", sqlite_url, handle).output.partition("{")
    assert re.search(rf"^handle +{handle}\nuser_id +zoë\n", heading)
    assert "ip_address    192.0.2.7\n" in heading
    assert '\n  "user_id": "zoë",\n  "cart": [\n    "\\u001b[2J"\n  ]\n}' in end


def test_show_leaves_out_what_is_not_known(sqlite_url):
    (handle,) = fill(sqlite_url, "ada")
    assert "ip_address" not in run("show", sqlite_url, handle).output


def test_show_finds_a_session_by_the_first_letters_of_its_handle(sqlite_url):
    handles = fill(sqlite_url, "ada", "bob")
    (shown,) = lines("show", sqlite_url, handles[1][:8])
    assert shown["handle"] == handles[1]


def test_show_says_which_handles_begin_with_letters_that_are_not_enough(sqlite_url):
    with closing(open_store(sqlite_url)) as store:
        for number in range(7):
            store.create(f"same{number}", Record(b"{}", 5000.0), now=time.time())
    result = run("show", sqlite_url, "same")
    assert result.exit_code == 2
    assert (
        "several handles begin with 'same': same0, same1, same2, same3, same4, ...; give more letters" in result.stderr
    )


def test_list_prints_a_table_with_times_in_words(sqlite_url):
    handles = fill(sqlite_url, "ada", "bob", track_client=True)
    heading, *rows = run("list", sqlite_url).output.splitlines()
    assert heading.split() == ["HANDLE", "USER", "AGE", "IDLE", "LEFT", "ADDRESS", "AGENT"]
    assert {row.split()[0] for row in rows} == set(handles)
    user = heading.index("USER")
    assert {row[user : user + 4] for row in rows} == {"ada ", "bob "}
    assert all(re.search(r" \d s +\d s +\d\d h +192\.0\.2\.7 +curl/8$", row) for row in rows)


def test_an_empty_list_says_so_to_people_and_is_empty_for_programs(sqlite_url):
    run("init", sqlite_url)
    empty = run("list", sqlite_url)
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "there are no sessions\n")
    assert run("list", sqlite_url, "--user", "ada").stderr == "user ada has no sessions\n"
    assert run("list", sqlite_url, "--json").output == ""


@pytest.mark.parametrize("variable", ["WSGISESSION_STORE", "SESSION_STORE"])
def test_without_a_url_the_store_comes_from_the_environment(sqlite_url, variable):
    (handle,) = fill(sqlite_url, "ada")
    environment = {variable: sqlite_url}
    assert [one["handle"] for one in lines("list", env=environment)] == [handle]
    assert [one["handle"] for one in lines("show", handle, env=environment)] == [handle]
    assert lines("revoke", handle, env=environment) == [{"revoked": 1}]
    assert lines("list", sqlite_url) == []


def test_a_url_takes_precedence_over_the_environment(sqlite_url):
    run("init", sqlite_url)
    assert lines("stats", sqlite_url, env={"WSGISESSION_STORE": "nothing://"})[0]["records"] == 0


def test_without_any_url_the_command_says_how_to_give_one():
    for arguments in (["list"], ["show", "handle"], ["revoke", "--user", "7"], ["doctor"]):
        told = run(*arguments, env=dict.fromkeys(("WSGISESSION_STORE", "SESSION_STORE")))
        assert told.exit_code == 2
        assert "give the URL of the store, such as redis://localhost:6379/0, or set WSGISESSION_STORE" in told.stderr


def test_an_unknown_handle_makes_the_exit_code_1(sqlite_url):
    run("init", sqlite_url)
    assert run("show", sqlite_url, "none").exit_code == 1
    assert run("revoke", sqlite_url, "none").exit_code == 1


def test_revoke_ends_one_session(sqlite_url):
    handles = fill(sqlite_url, "ada", "ada")
    assert lines("revoke", sqlite_url, handles[0]) == [{"revoked": 1}]
    assert [one["handle"] for one in lines("list", sqlite_url)] == [handles[1]]


def test_revoke_asks_before_it_ends_several_sessions_of_a_user(sqlite_url):
    fill(sqlite_url, "ada", "ada", "bob")
    refused = run("revoke", sqlite_url, "--user", "ada", input="n\n")
    assert refused.exit_code == 1
    assert "End all 2 sessions of user ada? [y/N]" in refused.stderr
    assert lines("revoke", sqlite_url, "--user", "bob") == [{"revoked": 1}]
    assert len(lines("list", sqlite_url)) == 2
    assert lines("revoke", sqlite_url, "--user", "ada", "--yes") == [{"revoked": 2}]


def test_the_help_of_every_command_has_an_example():
    assert "Exit codes: 0 success; 1 not found" in run("--help").output
    for name in main.commands:
        told = run(name, "--help").output
        assert re.search(rf"\n  Examples?:\n(    .*\n)*    .*wsgisession {name}\b", told), told


def test_purge_removes_everything_expired_or_as_much_as_its_limit(sqlite_url, monkeypatch):
    monkeypatch.setattr("wsgisession.cli.commands._PURGED_AT_ONCE", 4)
    with closing(open_store(sqlite_url)) as store:
        for number in range(19):
            store.create(f"s{number}", Record(b"{}", 5.0), now=1000)
    assert lines("purge", sqlite_url, "--limit", "7") == [{"purged": 7}]
    assert lines("purge", sqlite_url) == [{"purged": 12}]


@pytest.mark.parametrize("command", ["purge", "stats"])
def test_long_work_shows_its_progress_on_a_terminal_only(sqlite_url, command):
    fill(sqlite_url, "ada")
    with closing(open_store(sqlite_url)) as store:
        store.create("expired", Record(b"{}", 5.0), now=1000)
    program = [
        sys.executable,
        "-c",
        "from wsgisession.cli import main, progress; progress._INTERVAL = 0; main()",
        command,
        sqlite_url,
    ]
    ours, theirs = os.openpty()
    watched = subprocess.run(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, check=True, timeout=30)
    told = os.read(ours, 1000)
    os.close(ours)
    os.close(theirs)
    done = b"purged" if command == "purge" else b"counted"
    assert told == b"\r\x1b[K[####################] 100%  1 of 1 " + done + b"\r\x1b[K"
    unwatched = subprocess.run(program, cwd=ROOT, capture_output=True, check=True, timeout=30)
    assert unwatched.stderr == b""
    assert b"\r" not in watched.stdout


def test_wrong_usage_makes_the_exit_code_2(sqlite_url):
    assert run("stats", "nothing://").exit_code == 2
    assert run("revoke", sqlite_url).exit_code == 2
    assert run("init", sqlite_url, "--print-sql").exit_code == 2


def test_a_store_that_is_down_makes_the_exit_code_1_and_no_password_is_printed():
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


def test_unreadable_sessions_are_counted_and_their_handles_not_printed(sqlite_url, caplog):
    (handle,) = fill(sqlite_url, "ada", encryption_key=secrets.token_bytes(32))
    result = run("list", sqlite_url)
    assert "1 records cannot be read and were left out; if they are encrypted, give their key with" in result.output
    assert handle not in result.output + caplog.text


def test_the_sql_of_postgresql_is_printed_and_not_run():
    result = run("init", "postgresql://127.0.0.1:1/shop?table=visits", "--print-sql")
    assert result.exit_code == 0
    assert 'CREATE TABLE IF NOT EXISTS "visits"' in result.output


def without_click(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.modules['click'] = None; from wsgisession.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )


def test_a_secret_needs_no_click():
    made = without_click("secret")
    assert (made.returncode, made.stderr) == (0, "")
    SessionManager(secret=made.stdout.strip())
    assert len(json.loads(without_click("secret", "--json").stdout)["secret"]) == 43


@pytest.mark.parametrize("arguments", [["list"], ["secret", "--jsn"], []])
def test_without_click_every_other_command_says_what_to_install(arguments):
    told = without_click(*arguments)
    assert told.returncode == 1
    assert told.stderr == (
        "Every command except `wsgisession secret [--json]` needs the package click: pip install 'click>=8.1.3'\n"
    )


def test_the_package_can_be_run_as_a_module(sqlite_url):
    (handle,) = fill(sqlite_url, "ada")
    program = [sys.executable, "-m", "wsgisession", "list", sqlite_url]
    ran = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert handle in ran.stdout


@pytest.mark.parametrize(
    ("typed", "hint"), [("purg", "did you mean 'purge'?"), ("delete", "choose one of secret, init")]
)
def test_a_misspelled_command_brings_a_suggestion(typed, hint):
    result = run(typed)
    assert result.exit_code == 2
    assert f"there is no command {typed!r}: {hint}" in result.stderr


def test_revoke_with_a_handle_and_a_user_says_not_both(sqlite_url):
    result = run("revoke", sqlite_url, "a", "--user", "7")
    assert result.exit_code == 2
    assert "give a HANDLE or --user ID, not both" in result.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mongodb"])
def test_init_says_what_it_created(request, kind):
    url = request.getfixturevalue(f"{kind}_url")
    first, second = run("init", url), run("init", url)
    assert re.search(r"^created the (file|table|collection) ", first.output)
    assert second.output == "nothing to create: the store is ready\n"
    assert lines("init", url) == [{"created": []}]


def test_shell_completion_completes_commands():
    environment = {
        **os.environ,
        "_WSGISESSION_COMPLETE": "bash_complete",
        "COMP_WORDS": "wsgisession pu",
        "COMP_CWORD": "1",
    }
    program = [sys.executable, "-c", "from wsgisession.cli.commands import main; main(prog_name='wsgisession')"]
    ran = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert ran.stdout == "plain,purge\n"


def test_the_commands_work_on_every_store(store_url):
    assert run("init", store_url).exit_code == 0
    is_shared = not store_url.startswith("memory")
    handles = fill(store_url, "ada", "bob")
    assert [one["step"] for one in lines("doctor", store_url)] == STEPS
    (counted,) = lines("stats", store_url)
    assert counted["records"] == counted["with_user"] == (2 if is_shared else 0)
    assert {one["handle"] for one in lines("list", store_url)} == (set(handles) if is_shared else set())
    assert lines("purge", store_url, "--limit", "5") == [{"purged": 0}]


def test_the_page_of_the_docs_names_every_command():
    page = (ROOT / "docs" / "operating.md").read_text()
    assert re.findall(r"^\| `(\w+)(?: \[URL\].*| \[SOURCE\].*)?` \|", page, re.MULTILINE) == sorted(
        main.commands, key=["secret", "init", "list", "show", "revoke", "purge", "stats", "copy", "doctor"].index
    )


@pytest.mark.parametrize("command", ["list", "stats", "purge"])
def test_a_missing_file_is_a_mistake_in_the_url_and_is_not_created(command, tmp_path):
    result = run(command, f"sqlite:///{tmp_path}/typo.db")
    assert result.exit_code == 2
    assert (
        f"the file {tmp_path}/typo.db does not exist: correct the URL, or run `wsgisession init URL`" in result.stderr
    )
    assert list(tmp_path.iterdir()) == []
