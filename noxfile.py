"""What `make test` leaves out: every Python with the oldest and the newest of everything, and every WSGI server.

nox -s tests       each Python, with the lower bounds that setup.cfg names and with the newest releases
nox -s servers     one run under each WSGI server
nox -s types       pyright, on what apps write

Arguments after ``--`` go to pytest instead of the files below. The MongoDB tests need a server, as README.md says.
"""

from __future__ import annotations

import configparser

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

TOUCHING_OTHERS = [
    "tests/stores",
    "tests/test_failover.py",
    "tests/test_faults.py",
    "tests/test_cli.py",
    "tests/test_cookies.py",
    "tests/test_django.py",
    "tests/test_django_carry_over.py",
    "tests/test_django_engine.py",
    "tests/test_encryption.py",
    "tests/test_flask.py",
    "tests/test_commit.py",
    "tests/test_cookie_settings.py",
    "tests/test_ending.py",
    "tests/test_manager.py",
    "tests/test_records.py",
    "tests/test_takeover.py",
    "tests/test_visit.py",
    "tests/test_writing.py",
    "tests/test_moving.py",
    "tests/test_session.py",
    "tests/test_signing.py",
    "tests/test_wsgi.py",
    "tests/test_wsgi_apps.py",
    "tests/test_wsgi_failures.py",
    "tests/test_wsgi_streams.py",
]
"""The tests that depend on other packages."""

SERVERS = {
    "gunicorn-sync": "gunicorn",
    "gunicorn-gthread": "gunicorn",
    "gunicorn-gevent": "gunicorn gevent",
    "uwsgi": "uwsgi",
    "waitress": "waitress",
    "cheroot": "cheroot",
    "granian": "granian",
    "mod_wsgi": "mod_wsgi-standalone",
}
"""Each way to serve the app, and what to install for it."""


def lower_bounds() -> list[str]:
    """Return what a user needs, each pinned to the oldest release that setup.cfg allows."""
    setup = configparser.ConfigParser()
    setup.read("setup.cfg")
    extras = setup["options.extras_require"]
    needed = [setup["options"]["install_requires"], *(extras[name] for name in extras if name not in NOT_OF_USERS)]
    return [line.replace(">=", "==") for lines in needed for line in lines.split() if ">=" in line]


NOT_OF_USERS = {"all", "test", "check", "mutants", "docs", "demo", "bench"}
"""The extras of those who work on the package."""


@nox.session(python=PYTHONS)
@nox.parametrize("versions", ["oldest", "newest"])
def tests(session: nox.Session, versions: str) -> None:
    """Run the tests that touch other packages."""
    session.install("--editable", ".[test]", *(lower_bounds() if versions == "oldest" else ["--upgrade"]))
    session.run("python", "-m", "pytest", "-q", *(session.posargs or TOUCHING_OTHERS))


@nox.session
@nox.parametrize("server", list(SERVERS))
def servers(session: nox.Session, server: str) -> None:
    """Visit one app under each server."""
    session.install("--editable", ".[test]", *SERVERS[server].split())
    session.run("python", "-m", "pytest", "-q", "tests/web_servers.py", f"-k={server}", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Check with pyright what apps write, Django apps too, which `make test` checks only with mypy."""
    session.install("--editable", ".[all]", "pyright", "django-stubs")
    session.run("pyright", *(f"tests/typing_samples/{name}_app.py" for name in ("django", "flask", "wsgi")))
