"""The suites: what each is called, which release is run, and which of its tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
INSIDE = HERE / "inside"

STOCK = "stock"
"""The run on the framework's own sessions."""

EVERYWHERE = ("sqlite", "redis")


@dataclass(frozen=True)
class Suite:
    """One suite.

    :ivar title: its row of the table.
    :ivar package: the distribution whose source contains it; None if the tests are in ``inside/``.
    :ivar requirements: the file in ``requirements/`` that pins everything it needs. Suites that name the same file
        share an environment.
    :ivar arguments: what follows ``python`` in its own folder. ``{inside}`` is the folder of ours.
    :ivar ours: the arguments that put our sessions in, as a plugin of pytest's.
    :ivar folder: where to run it, in the source.
    :ivar tests: how many tests it has, so that a suite of which most is no longer collected does not look well.
    :ivar stores: the stores to run it on.
    :ivar environment: the environment variables that it needs.
    :ivar settings: the Django settings modules: on the framework's own sessions, and on ours.
    """

    title: str
    package: str | None
    requirements: str
    arguments: tuple[str, ...]
    tests: int
    ours: tuple[str, ...] = ()
    folder: str = "."
    stores: tuple[str, ...] = EVERYWHERE
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, str] = ("", "")

    @property
    def is_pytest(self) -> bool:
        return "pytest" in self.arguments

    @property
    def file_name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower())


def _flask(package: str, *tests: str, count: int, title: str = "", environment: Mapping[str, str] = {}) -> Suite:
    """A suite in which every Flask app gets our sessions; its settings, weak secrets included, stay as they are."""
    requirements = package.partition("==")[0].lower()
    return Suite(
        title=title or package.replace("==", " "), package=package, requirements=requirements, tests=count,
        arguments=("-m", "pytest", *(tests or ("tests",))), ours=("-p", "sessions_everywhere"),
        environment=environment,
    )  # fmt: skip


_FLASK_APPBUILDER = ("tests/test_mvc_oauth.py", "tests/security/test_mvc_security.py", "tests/test_menu.py")
_ALLAUTH = tuple(f"tests/apps/{app}" for app in ("account", "socialaccount", "mfa", "headless", "usersessions"))
_DJANGO = ("auth_tests", "sessions_tests", "csrf_tests", "messages_tests")

SUITES: Mapping[str, Suite] = {
    "flask": _flask("Flask==3.1.3", count=490),
    "flask-login": _flask("Flask-Login==0.6.3", count=114),
    "flask-wtf": _flask("Flask-WTF==1.3.0", count=85),
    "flask-dance": _flask("Flask-Dance==7.1.0", count=202),
    "flask-oidc": _flask("Flask-OIDC==2.4.0", count=46),
    "flask-appbuilder": _flask(
        "Flask-AppBuilder==5.3.0", *_FLASK_APPBUILDER, count=50, title="Flask-AppBuilder 5.3.0: login, OAuth, menu",
        environment={"SQLALCHEMY_DATABASE_URI": "sqlite:///"},
    ),
    # Its own suite is in no archive that pip can get, so this one is ours.
    "flask-paranoid": Suite(
        title="Flask-Paranoid 0.3.0 (tests of ours)", package=None, requirements="flask-paranoid", tests=6,
        arguments=("-m", "pytest", "{inside}/paranoid_suite.py"), ours=("-p", "sessions_everywhere"),
    ),
    "django": Suite(
        title="Django 5.2.19: auth, sessions, csrf, messages", package="Django==5.2.19", requirements="django",
        folder="tests", arguments=("runtests.py", "--parallel=1", *_DJANGO), tests=1704,
        settings=("django_stock", "django_ours"),
    ),
    "django-engine": Suite(
        title="Django 5.2.19: SessionTestsMixin, engine", package="Django==5.2.19", requirements="django",
        folder="tests", arguments=("{inside}/session_backend.py", "engine"), tests=65,
        stores=("sqlite", "redis", "postgresql"),
    ),
    "django-wrapped": Suite(
        title="Django 5.2.19: SessionTestsMixin, wrapped app", package="Django==5.2.19", requirements="django",
        folder="tests", arguments=("{inside}/session_backend.py", "wrapped"), tests=65,
        stores=("sqlite", "redis", "postgresql"),
    ),
    "allauth": Suite(
        title="django-allauth 65.22.1: " + ", ".join(one.rpartition("/")[2] for one in _ALLAUTH),
        package="django-allauth==65.22.1", requirements="allauth", tests=2069,
        arguments=("-m", "pytest", *_ALLAUTH), stores=("sqlite", "redis", "postgresql"),
        settings=("allauth_stock", "allauth_ours"),
    ),
}  # fmt: skip
