"""Write the sessions of contents.py into a store, with the old version: run by its interpreter, see generate.py.

It is given what to write as JSON, and prints the cookies or Django's session keys by the names of the sessions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import contents

from wsgisession import SessionManager


class Clock:
    now = contents.BEGIN

    def __call__(self) -> float:
        return self.now


def value_of(set_cookie: str | None) -> str:
    assert set_cookie is not None
    return set_cookie.partition(";")[0].partition("=")[2]


class Site:
    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.manager = SessionManager(secret=contents.SECRET, clock=self.clock, **options)

    def write(self, name: str, data: dict[str, Any]) -> str:
        """Write a session as an app would, and return the value of its cookie."""
        session = self._logged_in(data) if name in contents.LOGINS else self.manager.open("", {})
        session.update(data)
        if name == "own cookie":
            session.cookie.max_age = contents.OWN_MAX_AGE
            session.cookie.same_site = "Strict"
        if name == "empty":
            session.save()
        client = contents.CLIENT if name == "tracked" else None
        return value_of(self.manager.commit(session, client=client).set_cookie)

    def _logged_in(self, data: dict[str, Any]) -> Any:
        """Return a session that began with a cart, and whose user has now logged in."""
        self.clock.now = contents.BEGAN_BEFORE_LOGIN
        session = self.manager.open("", {})
        session["cart"] = data["cart"]
        cookie = value_of(self.manager.commit(session).set_cookie)
        self.clock.now = contents.RENEWED_AT
        session = self.manager.open(f"{self.manager.name}={cookie}", {})
        granted = {key: value for key, value in data.items() if key not in ("cart", "user_id")}
        session.login(data["user_id"], **granted)
        return session


def native(url: str, options: dict[str, Any]) -> dict[str, Any]:
    if options.pop("encrypted", False):
        options["encryption_key"] = contents.ENCRYPTION_KEY
    site = Site(store=url, renewal_timeout=contents.RENEWAL, track_client=True, **options)
    site.manager.store.prepare()
    old = site.write("renewed", contents.NATIVE["renewed"])
    site.clock.now = contents.RENEWED_AT
    session = site.manager.open(f"sid={old}", {})
    assert session["n"] == 4
    cookies = {"renewed": value_of(site.manager.commit(session).set_cookie), "renewed, the old ID": old}
    assert cookies["renewed"] != old
    cookies |= {name: site.write(name, data) for name, data in contents.NATIVE.items() if name != "renewed"}
    return written(site.manager, cookies)


def express(url: str, options: dict[str, Any]) -> dict[str, Any]:
    site = Site(store=url, format="express", name="connect.sid", **options)
    site.manager.store.prepare()
    site.clock.now = contents.RENEWED_AT
    cookies = {name: site.write(name, data) for name, data in contents.EXPRESS.items()}
    return written(site.manager, cookies)


def written(manager: SessionManager, cookies: dict[str, Any]) -> dict[str, Any]:
    return {"cookies": cookies, "records": list(records_of(manager)), "ddl": manager.store.ddl}


def records_of(manager: SessionManager) -> Iterator[dict[str, Any]]:
    """Return the records as any store gives them back: how `memory://` is carried from one version to the other."""
    for handle, record in manager.store.scan(now=contents.RENEWED_AT):
        yield {
            "handle": handle,
            "data": record.data.decode(),
            "ttl": record.ttl,
            "user_id": record.user_id,
            "expires_at": record.expires_at,
        }


def django_engine(url: str, options: dict[str, Any]) -> dict[str, Any]:
    _set_up_django(url)
    from wsgisession.django import SessionStore, get_manager

    get_manager().store.prepare()
    keys = {}
    for name, data in contents.DJANGO.items():
        session = SessionStore()
        session.update(data)
        session.save()
        keys[name] = session.session_key
    return written(get_manager(), keys)


def django_wrapped(url: str, options: dict[str, Any]) -> dict[str, Any]:
    _set_up_django("memory://")
    from wsgisession.django import EnvironSession

    site = Site(store=url, name="sessionid", **options)
    site.manager.store.prepare()
    site.clock.now = contents.RENEWED_AT
    cookies = {}
    for name, data in contents.DJANGO.items():
        session = site.manager.open("", {})
        EnvironSession(session).update(data)
        cookies[name] = value_of(site.manager.commit(session).set_cookie)
    return written(site.manager, cookies)


def _set_up_django(url: str) -> None:
    import django
    from django.conf import settings

    clock = Clock()
    clock.now = contents.RENEWED_AT
    settings.configure(
        SECRET_KEY=contents.SECRET,
        INSTALLED_APPS=["wsgisession.django.Sessions"],
        SESSION_ENGINE="wsgisession.django",
        WSGISESSION={"store": url, "clock": clock},
        USE_TZ=True,
    )
    django.setup()


KINDS = {"native": native, "express": express, "django engine": django_engine, "django wrapped": django_wrapped}

if __name__ == "__main__":
    task = json.load(sys.stdin)
    print(json.dumps(KINDS[task["kind"]](task["url"], task.get("options", {}))))
