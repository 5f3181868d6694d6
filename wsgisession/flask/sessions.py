"""`FlaskSession`: a session as Flask, its extensions, and its templates expect it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any, cast

from flask import Flask, Request
from flask import session as _flask_session
from flask.sessions import SessionMixin
from flask.templating import Environment

from .._core.visit import Visit
from ..manager import SessionManager
from ..session import Session


class FlaskSession(Session, SessionMixin):
    """A `Session` with what Flask expects of one: `permanent`, `new`, `modified`, and `accessed`."""

    __slots__ = ("_manager", "_outer", "_seen", "_was_written")

    _outer: Session | None
    """The environ's session, if the app is also wrapped in `SessionMiddleware`; this is another face of it."""

    _manager: SessionManager

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit)
        self._outer = None
        self._seen = self._was_written = False

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether there was no record when the request came."""
        return self.is_new

    @property
    def modified(self) -> bool:
        """Whether this request changed the session; nested changes are detected.

        If you set True, every key is compared at the end of the request; if you set False, the changes so far are not
        written.
        """
        return self._was_written or self.is_modified

    @modified.setter
    def modified(self, value: bool) -> None:
        if value:
            self._values().suspect_all()
        else:
            self._visit.leave_unwritten()
            self._was_written = False

    @property
    def accessed(self) -> bool:
        """Whether anybody has looked at the session in this request. Flask sets it without reading anything."""
        return self._seen or self.is_accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._seen = value


session: FlaskSession = cast(FlaskSession, _flask_session)
"""``flask.session``, for type checkers: the same object, with the methods of a `Session`."""


def current() -> Any:
    """Return the session behind ``flask.session``."""
    return _flask_session._get_current_object()  # type: ignore[attr-defined]


def is_event(request: Request) -> bool:
    """Tell whether a request is an event of Flask-SocketIO: it has the environ of the socket, and no response."""
    return hasattr(request, "event") and hasattr(request, "sid")


_SECRET_MEMBERS = frozenset({"id", "cookie"})


class TemplateSession(MutableMapping[Any, Any]):
    """What templates call ``session``.

    Jinja looks for an attribute before a key, so ``session.user`` would be the `Session`'s own member. Here, a name is
    the app's key first, and then a public member, but never the ID, the cookie, or an internal attribute.
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        mine = current()
        if not isinstance(mine, FlaskSession):  # Flask's null session
            return getattr(mine, name)
        if name in mine:
            return mine[name]
        is_public = not name.startswith("_") and name not in _SECRET_MEMBERS
        if is_public and not (name == "handle" and mine._visit.services.is_express):  # where the handle is the ID
            return getattr(mine, name)
        raise AttributeError(f"templates cannot see {name!r} of a session")

    def __getitem__(self, key: Any) -> Any:
        return current()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        current()[key] = value

    def __delitem__(self, key: Any) -> None:
        del current()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(current())

    def __len__(self) -> int:
        return len(current())

    def __contains__(self, key: object) -> bool:
        return key in current()

    def __eq__(self, other: object) -> bool:
        return bool(current() == other)

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Any) -> Any:
        return current() | other

    def __ror__(self, other: Any) -> Any:
        return other | current()

    def __repr__(self) -> str:
        return repr(current())


_IN_TEMPLATES = TemplateSession()


def guard_templates(app: Flask) -> None:
    """Let the app's templates see a `TemplateSession`.

    Flask 3.1 gives them ``session`` as a global of their environment, and older versions in their context. The
    environment is made when it is first needed, so that the app can still set its options.
    """
    app.context_processor(lambda: {"session": _IN_TEMPLATES})
    if "jinja_env" in vars(app):
        _guarded(app.jinja_env)
        return
    make, its_app = type(app).create_jinja_environment, weakref.ref(app)

    def make_environment() -> Environment:
        app = its_app()
        assert app is not None  # it calls this
        return _guarded(make(app))

    app.create_jinja_environment = make_environment  # type: ignore[method-assign]


def _guarded(environment: Environment) -> Environment:
    """Replace the global, and look at a session that a view passed to a template in the same way."""
    if environment.globals.get("session") is _flask_session:
        environment.globals["session"] = _IN_TEMPLATES
    attribute_of, item_of = environment.getattr, environment.getitem
    vars(environment).update(
        getattr=lambda value, name: attribute_of(_seen_by_templates(value), name),
        getitem=lambda value, key: item_of(_seen_by_templates(value), key),
    )
    return environment


def _seen_by_templates(value: Any) -> Any:
    return _IN_TEMPLATES if value is _flask_session or type(value) is FlaskSession else value
