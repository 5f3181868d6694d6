"""Guards see the same path as the app: no spelling of a path gets around the guard of what it may be read as."""

from __future__ import annotations

import posixpath
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import create_environ, run_wsgi_app

from tests.visits import SECRET
from wsgisession import SessionMiddleware
from wsgisession.guards import protect, require_role, require_user


def reached(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"reached"]


def open_to_all(app: Any) -> Any:
    return app


GUARDS = {"/files": require_user, "/files/public": open_to_all, "/admin": require_role("admin"), "/ping": open_to_all}
APP = SessionMiddleware(protect(reached, GUARDS), secret=SECRET)


def status_of(path: str, script_name: str = "") -> int:
    environ = {**create_environ("/"), "PATH_INFO": path, "SCRIPT_NAME": script_name}
    _, status, _ = run_wsgi_app(APP, environ)
    return int(status[:3])


@pytest.mark.parametrize(
    "path", ["/files/public/a.txt", "/files/public", "/ping", "/", "", "/other/x.html", "/filesystem"]
)
def test_open_paths_are_open(path):
    assert status_of(path) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/files/private/x",
        "/files/public/../private/x",
        "/files/public/%2e%2e/private/x",
        "/files/public/..%2fprivate/x",
        "/files/public/%252e%252e/private/x",
        "/files/public\\..\\private/x",
        "/files//private/x",
        "//files/private/x",
        "/./files/private/x",
        "/x/../files/private",
        "/files;v=1/private",
        "/files/public;/../private",
        "/FILES/private",
        "/Files/Public/../private",
        "/admin",
        "/ADMIN/users",
        "/ping/../admin",
        "/%61dmin",
        "/admin./users",
        "/admin%20/users",
        "/admin\0",
        "admin",
    ],
)
def test_a_path_that_may_be_read_as_a_protected_one_is_protected(path):
    """The strictest guard that applies to any reading of the path decides."""
    assert status_of(path) == 401


def test_the_part_that_an_outer_app_took_off_does_not_hide_a_protected_path():
    assert status_of("/users", script_name="/admin") == 401
    assert status_of("/ping", script_name="/shop") == 200


def test_a_path_that_can_be_read_in_very_many_ways_is_refused():
    assert status_of("/files/public" + "/%2525252525252541;A.\\..//" * 20) == 400


segments = st.sampled_from(
    ["files", "public", "private", "admin", "..", ".", "", "%2e%2e", "%2E.", ";x", "FILES", "a\\..", "x"]
)
separators = st.sampled_from(["/", "//", "/./", "\\", "%2f", "%2F", "%5c", "/;p/"])


@given(st.lists(st.tuples(separators, segments), max_size=8))
def test_no_hostile_path_gets_around_a_guard(parts):
    """What an app that decodes once or twice, and resolves dots, would serve as a protected file is never open."""
    path = "".join(separator + segment for separator, segment in parts)
    for decoded in (path, unquote(path), unquote(unquote(path))):
        resolved = posixpath.normpath("/" + decoded.replace("\\", "/").lstrip("/"))
        is_protected = resolved == "/admin" or resolved.startswith(("/admin/", "/files/private"))
        if is_protected:
            assert status_of(path) in (400, 401), (path, resolved)
