"""The demonstration limits guesses, explains the sign-in form, and shows its metrics only to this machine."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo_flask.app import create_app
from demo_flask.figures import folder_of_this_run
from demo_flask.guesses import PER_ACCOUNT, PER_ADDRESS, WINDOW, Guesses
from tests.test_demo import PASSWORD, started
from tests.web import SECRET, Browser
from wsgisession.testing import FakeClock


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return create_app(SECRET_KEY=SECRET, SESSION_STORE="memory://", USERS=tmp_path / "users.db", WTF_CSRF_ENABLED=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def guesses(tmp_path: Path, clock: FakeClock) -> Guesses:
    return Guesses(tmp_path / "guesses.db", clock)


def sign_up(app: Any, name: str) -> None:
    with app.test_client() as client:
        assert client.post("/sign-up", data={"name": name, "password": PASSWORD}).status_code == 303


def sign_in(app: Any, name: str, password: str, address: str = "203.0.113.1") -> Any:
    with app.test_client() as client:
        return client.post(
            "/sign-in", data={"name": name, "password": password}, environ_overrides={"REMOTE_ADDR": address}
        )


def test_an_account_accepts_no_more_guesses_after_five_wrong_ones_from_any_address(app):
    sign_up(app, "Ada")
    for number in range(PER_ACCOUNT):
        assert "No account has this name" in sign_in(app, "ada", "guessed it?", f"203.0.113.{number}").text
    refused = sign_in(app, "Ada", PASSWORD, "198.51.100.1")
    assert refused.status_code == 200
    assert "Too many wrong passwords" in refused.text


def test_an_address_may_not_try_one_password_on_many_accounts(app):
    sign_up(app, "Ada")
    for number in range(PER_ADDRESS):
        sign_in(app, f"nobody {number}", PASSWORD)
    assert "Too many wrong passwords" in sign_in(app, "Ada", PASSWORD).text
    assert sign_in(app, "Ada", PASSWORD, "198.51.100.1").status_code == 303


def test_the_right_password_clears_the_wrong_guesses_of_its_account(app):
    sign_up(app, "Ada")
    for _ in range(3):
        for _ in range(PER_ACCOUNT - 1):
            sign_in(app, "Ada", "guessed it?")
        assert sign_in(app, "Ada", PASSWORD).status_code == 303


def test_confirming_the_password_counts_too(app):
    app.config["FRESH_FOR"] = app.config["FRESH_FOR"] * 0
    with app.test_client() as client:
        client.post("/sign-up", data={"name": "Ada", "password": PASSWORD})
        answers = [client.post("/confirm", data={"password": "guessed it?"}).text for _ in range(PER_ACCOUNT + 1)]
    assert "This is not your password" in answers[0]
    assert "Too many wrong passwords" in answers[-1]


def test_guesses_are_forgotten_after_five_minutes(guesses, clock):
    for _ in range(PER_ACCOUNT):
        assert guesses.begin("ada", "203.0.113.1")
    assert guesses.begin("ada", "203.0.113.1") is None
    clock.advance(WINDOW + 1)
    assert guesses.begin("ada", "203.0.113.1")


def test_guesses_in_parallel_do_not_exceed_the_limit(guesses):
    with ThreadPoolExecutor(20) as pool:
        begun = list(pool.map(lambda _: guesses.begin("ada", "203.0.113.1"), range(40)))
    assert len([guess for guess in begun if guess]) == PER_ACCOUNT


def test_the_sign_in_form_says_why_it_is_shown(app):
    with app.test_client() as client:
        page = client.get("/devices", follow_redirects=True).text
    assert "The page that you opened is only for users who are signed in." in page
    with app.test_client() as client:
        assert "only for users" not in client.get("/sign-in").text


def test_a_page_says_that_the_session_has_ended_and_only_once(app):
    with app.test_client() as client:
        client.post("/sign-up", data={"name": "Ada", "password": PASSWORD})
        manager = app.extensions["wsgisession"].manager
        manager.revoke_user(1)
        page = client.get("/devices", follow_redirects=True).text
        assert "Your session has ended" in page
        assert "Sign in to continue." in page
        client.get("/")  # writes a new session
        assert "Your session has ended" not in client.get("/").text


def test_neither_a_first_visit_nor_a_sign_out_is_taken_for_an_ended_session(app):
    with app.test_client() as client:
        assert "has ended" not in client.get("/").text
        client.post("/sign-up", data={"name": "Ada", "password": PASSWORD})
        assert "has ended" not in client.post("/sign-out", follow_redirects=True).text
        assert "has ended" not in client.post("/inside/end").text


def test_the_button_that_ends_the_session_says_that_it_signs_out(app):
    with app.test_client() as client:
        assert "This signs you out." not in client.get("/inside").text
        client.post("/sign-up", data={"name": "Ada", "password": PASSWORD})
        assert re.search(r"End and write</button>\s*<small>This signs you out.</small>", client.get("/inside").text)


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("203.0.113.1", {}, 404),
        ("", {}, 404),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.1"}, 404),
        ("127.0.0.1", {"Forwarded": "for=203.0.113.1"}, 404),
    ],
)
def test_only_this_machine_sees_the_metrics(app, address, headers, status):
    with app.test_client() as client:
        answer = client.get("/metrics/", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    assert answer.status_code == status
    assert ("wsgisession_events_total" in answer.text) == (status == 200)


CREATED = re.compile(r'^wsgisession_events_total\{event="created",reason=""\} (\S+)', re.MULTILINE)


def sessions_counted_by(demo: Any) -> float:
    return sum(map(float, CREATED.findall(Browser(demo.url).get("/metrics"))))


def test_two_demos_that_run_at_once_do_not_add_up_each_other_s_figures():
    for demo in started():
        for _ in range(5):
            Browser(demo.url).get("/")
        before = sessions_counted_by(demo)
        other = type(demo)()
        other.folder, other.instance, other.log = demo.folder, demo.instance, demo.log.with_name("other.log")
        try:
            other.start()
            assert 1 <= sessions_counted_by(other) < before
            assert sessions_counted_by(demo) == before
        finally:
            other.stop()


def test_the_figures_of_a_run_that_ended_are_removed_and_those_of_a_running_one_stay(tmp_path):
    ended, running = tmp_path / "figures-999999999", tmp_path / f"figures-{os.getppid()}"
    for folder in (ended, running):
        folder.mkdir()
    own = folder_of_this_run(tmp_path)
    assert not ended.exists()
    assert running.exists()
    assert own.is_dir()


def test_the_container_is_made_of_files_that_exist_and_starts_the_app_that_the_tests_start():
    root = Path(create_app.__code__.co_filename).parents[1]
    dockerfile = (root / "demo_flask" / "Dockerfile").read_text()
    assert "demo_flask.app:create_app()" in dockerfile
    for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE):
        assert all(list(root.glob(pattern)) for pattern in line.split()), line
    compose = yaml.safe_load((root / "demo_flask" / "compose.yaml").read_text())
    build = compose["services"]["web"]["build"]
    assert (root / "demo_flask" / build["context"] / build["dockerfile"]).is_file()
    assert set(compose["services"]["web"]["depends_on"]) <= set(compose["services"])
