"""`wsgisession doctor --devices URL` notices what stands between browsers and the endpoints."""

from __future__ import annotations

import itertools
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from tests.chromium import make_certificate
from tests.device.site import Site
from wsgisession.cli.commands import main
from wsgisession.device.diagnosis import examine_endpoints


class Front:
    """The site over TLS, behind something that the test puts in front of it."""

    def __init__(self, folder: Path) -> None:
        self.site = Site()
        self.between: Callable[[dict[str, Any], Any], Any] = self.site.app
        self.certificate, key = make_certificate(folder)
        files = (str(self.certificate), str(key))
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True, ssl_context=files)
        self.url = f"https://localhost:{self._server.port}/.session-device"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _app(self, environ: dict[str, Any], start_response: Any) -> Any:
        return self.between(environ, start_response)

    def findings(self, path: str = "") -> list[str]:
        context = ssl.create_default_context(cafile=str(self.certificate))
        return [str(finding) for finding in examine_endpoints(self.url + path, context=context)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def front(tmp_path) -> Iterator[Front]:
    front = Front(tmp_path)
    yield front
    front.close()


def test_nothing_is_found_where_nothing_is_wrong(front):
    assert front.findings() == front.findings("/") == []


@pytest.mark.parametrize(("status", "cure"), [(404, "give the app device_binding"), (403, "exempt"), (301, "exempt")])
def test_another_answer_to_a_refresh_is_a_problem(front, status, cure):
    inner = front.between

    def between(environ, start_response):
        if environ["REQUEST_METHOD"] == "POST":
            start_response(f"{status} No", [("Location", "/elsewhere")])
            return [b""]
        return inner(environ, start_response)

    front.between = between
    (finding,) = front.findings()
    assert f"was answered with {status} instead of 200, which ends the sessions of browsers: {cure}" in finding


def test_a_rate_limit_is_detected(front):
    inner, turns = front.between, itertools.count()

    def between(environ, start_response):
        if next(turns) > 5:
            start_response("429 Too Many Requests", [])
            return [b""]
        return inner(environ, start_response)

    front.between = between
    assert "was answered with 429" in front.findings()[0]


def test_a_page_with_the_status_200_is_detected(front):
    def between(environ, start_response):
        start_response("405 No" if environ["REQUEST_METHOD"] == "GET" else "200 OK", [("Cache-Control", "no-store")])
        return [b"<!doctype html>We are back soon."]

    front.between = between
    assert "something else than the app answers" in front.findings()[0]


def test_a_header_that_a_proxy_drops_is_detected(front):
    inner = front.between

    def between(environ, start_response):
        environ.pop("HTTP_SEC_SECURE_SESSION_ID", None)
        return inner(environ, start_response)

    front.between = between
    assert "the header Sec-Secure-Session-Id does not reach the app" in front.findings()[0]


def test_a_failing_store_is_a_warning(front):
    def failing(environ, start_response):
        start_response("405 No" if environ["REQUEST_METHOD"] == "GET" else "503 No", [("Cache-Control", "no-store")])
        return [b""]

    front.between = failing
    assert "browsers keep their sessions" in front.findings()[0]


def test_a_cache_that_changes_the_headers_is_a_warning(front):
    inner = front.between

    def between(environ, start_response):
        def without(status, headers, *rest):
            return start_response(status, [pair for pair in headers if pair[0] != "Cache-Control"], *rest)

        return inner(environ, without)

    front.between = between
    assert "without Cache-Control: no-store" in front.findings()[0]


def test_http_and_a_certificate_that_is_not_accepted_are_problems(front):
    assert "is not https" in str(next(examine_endpoints("http://example.com/.session-device")))
    (finding,) = examine_endpoints(front.url)
    assert "browsers bind no sessions while they do not accept the certificate" in str(finding)


def test_a_site_that_does_not_answer_is_a_problem():
    (finding,) = examine_endpoints("https://localhost:1/.session-device")
    assert "cannot be asked" in str(finding)


def test_the_command_adds_a_step(front, tmp_path):
    arguments = ["doctor", f"sqlite:///{tmp_path / 's.db'}", "--devices", front.url, "--json"]
    CliRunner().invoke(main, ["init", arguments[1]])
    done = CliRunner().invoke(main, arguments)
    last = json.loads(done.output.splitlines()[-1])
    assert (last["step"] if "step" in last else last["name"]) == "devices"
    assert "certificate" in done.output
    assert done.exit_code == 1
