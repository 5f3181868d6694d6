"""`Session`: what an app works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ._core import identity, writing
from ._core.binding import Device, device_of
from ._core.content import Content
from ._core.cookie_settings import SessionCookie
from ._core.info import last_seen
from ._core.timeouts import as_datetime
from ._core.values import Values
from ._core.visit import Origin, Visit

T = TypeVar("T")


class Session(MutableMapping[Any, Any]):
    """One visitor's session: read and written like a dict of JSON-like values.

    Nothing is parsed, verified, or fetched before you first touch it. Changes, including nested ones, are written
    before the response's headers are sent. A `SessionManager` makes sessions; you never create one yourself.
    """

    __slots__ = ("_visit",)

    _visit: Visit

    def __init__(self, visit: Visit) -> None:
        _set_visit(self, visit)

    if not TYPE_CHECKING:  # so that type checkers know the attributes

        def __setattr__(self, name, value):
            found = getattr(type(self), name, None)
            if not name.startswith("_") and not hasattr(found, "__set__"):
                raise AttributeError(f'a session has no attribute {name!r}; did you mean session["{name}"] = ...?')
            object.__setattr__(self, name, value)

    # The mapping.

    def __getitem__(self, key: Any) -> Any:
        visit = self._visit
        values = visit.values
        if values is None:
            values = visit.open()
        visit.accessed = True
        return values[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._changing()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._changing()[key]

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of the key, or the default."""
        return self._values().get(key, default)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def __contains__(self, key: object) -> bool:
        return key in self._values()

    def clear(self) -> None:
        """Remove all data, also what other requests write in the meantime; the ID stays."""
        self._changing().clear()

    def copy(self) -> dict[Any, Any]:
        """Return a dict of the data, as `dict.copy` does: the values are the same objects."""
        return dict(self)

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> Session:  # type: ignore[misc]
        self.update(other)
        return self

    def __repr__(self) -> str:
        visit = self._visit
        if visit.values is None:
            return "<Session, not read yet>"
        handle = visit.handle
        return f"<Session {visit.services.signer.shown(handle) if handle else 'without a record'}>"

    def __sentry_repr__(self) -> str:
        """Return the repr: Sentry would otherwise read every mapping that it finds in a frame."""
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session cannot be pickled or deep-copied; use dict(session)")

    # State.

    @property
    def id(self) -> str | None:
        """The session ID, a secret; None if the session was opened by its handle. Never log it: use `handle`."""
        identity.identify(self._touched())
        return self._visit.session_id

    @property
    def handle(self) -> str:
        """The record's public name, safe in lists, logs, and URLs; it grants no access.

        With ``format="express"`` it is the ID, which is a secret.
        """
        visit = self._touched()
        identity.identify(visit)
        return visit.handle or ""

    @property
    def is_new(self) -> bool:
        """Whether there was no record when the request came."""
        return self._touched().origin is not Origin.LOADED

    @property
    def is_accessed(self) -> bool:
        """Whether anybody has looked at the session in this request."""
        return self._visit.accessed

    @property
    def is_modified(self) -> bool:
        """Whether the data differs from what the store holds, including nested changes."""
        return self._visit.is_changed

    @property
    def is_empty(self) -> bool:
        """Whether there are no data."""
        return not self._values()

    @property
    def user_id(self) -> Any:
        """The session's user: the first value under the manager's ``user_key`` that names one, or None."""
        return self._touched().user_id()

    @property
    def user(self) -> Any:
        """What the manager's ``user_loader(user_id)`` returned, loaded once per request, or None."""
        return self._touched().loaded_user()

    @property
    def cookie(self) -> SessionCookie:
        """This session's own cookie settings; a change is sent to the client and stored with the record."""
        return self._touched().own_cookie()

    @property
    def created_at(self) -> datetime:
        """When the session began; `regenerate` does not move it."""
        return as_datetime(self._content().created_at)

    @property
    def authenticated_at(self) -> datetime | None:
        """When `login` last happened, for step-up checks (ASVS 5.0 7.5.3); None for never."""
        at = self._content().authenticated_at
        return None if at is None else as_datetime(at)

    @property
    def last_seen_at(self) -> datetime:
        """When the idle timeout was last restarted: now for a new session, else up to ``touch_after`` ago."""
        visit = self._touched()
        stored = visit.snapshot or (visit.takeover and visit.takeover.old)
        return as_datetime(last_seen(stored.record) if stored else visit.content.created_at)

    @property
    def expires_at(self) -> datetime:
        """When the session ends unless it is used: idle since `last_seen_at`, or by the absolute timeout before."""
        return as_datetime(self._touched().expiry())

    @property
    def device(self) -> Device | None:
        """The device that the session is bound to, with ``device_binding``; None for an unbound session."""
        visit = self._touched()
        if visit.services.devices is None:
            return None
        return device_of(visit.content.device, proven_at=visit.proven_at)

    @property
    def is_bound(self) -> bool:
        """Whether the session is bound to a device, so that its cookie is worthless elsewhere."""
        return self.device is not None

    # Actions.

    def regenerate(self, *, keep_data: bool = True) -> None:
        """Give the session a new ID, with the data copied over; the old ID is dead before anyone sees the new one.

        The switch happens when the response is about to be sent. The absolute timeout does not move.

        :raises HeadersSentError: after the headers were sent.
        :raises SessionError: for a session opened by its handle, because no response would carry the new ID.
        """
        identity.regenerate(self._touched(), keep_data=keep_data)

    def login(self, user_id: Any, **data: Any) -> None:
        """Regenerate the ID, then set the user and the data (ASVS 5.0 7.2.4). Restarts both timeouts.

        An anonymous visitor's data is kept, another user's is not. If the session has ended in the meantime, the
        login starts a new one.

        :param user_id: what `user_id` will return; compared as text when a user's sessions are looked up.
        :raises HeadersSentError: after the headers were sent.
        :raises TypeError: for anything but a non-empty str, an int, or a UUID.
        """
        identity.login(self._touched(), user_id, data)

    def destroy(self) -> None:
        """End the session: the record is deleted now, and the response makes the browser drop the cookie.

        Writing afterwards starts a new session with a new ID.

        :raises StoreError: if the record could not be deleted; the session then still exists.
        """
        writing.destroy(self._touched())

    def logout(self, *, clear_site_data: bool = False) -> None:
        """End the session as `destroy` does.

        :param clear_site_data: also send ``Clear-Site-Data``, so that the browser forgets caches and storage.
        """
        visit = self._touched()
        writing.destroy(visit)
        visit.clear_site_data = clear_site_data

    def save(self) -> None:
        """Write the session now; what others changed in the meantime is merged in.

        :raises StoreError: if the store refuses.
        :raises SessionGone: if the record has ended.
        :raises HeadersSentError: for a new session, or a new user, after the headers were sent.
        """
        writing.save(self._touched())

    def reload(self) -> None:
        """Read the session again from the store; unsaved changes are dropped.

        :raises SessionGone: if the record has ended.
        """
        writing.reload(self._touched())

    def touch(self) -> bool:
        """Restart the idle timeout in the store now; return whether the record existed."""
        return writing.touch(self._touched())

    def transaction(self, function: Callable[[Session], T]) -> T:
        """Apply ``function(session)`` and write immediately, again on fresh data if another writer came between.

        The function may run several times; fifty parallel ``session["n"] += 1`` add up to fifty.

        :raises SessionGone: if the record has ended.
        """
        return writing.transact(self._touched(), lambda: function(self))

    # Inside.

    def _touched(self) -> Visit:
        visit = self._visit
        if visit.values is None:
            visit.open()
        visit.accessed = True
        return visit

    def _values(self) -> Values:
        visit = self._visit
        values = visit.values
        if values is None:
            values = visit.open()
        visit.accessed = True
        return values

    def _changing(self) -> Values:
        visit = self._visit
        visit.accessed = True
        return visit.change()

    def _content(self) -> Content:
        return self._touched().content


_set_visit = Session.__dict__["_visit"].__set__


__all__ = ["Session", "SessionCookie"]
