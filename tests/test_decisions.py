"""When a session is written, and when its cookie is sent: every combination, through the middleware.

What is expected is stated here in its own words, taken from what express-session does and from the differences that
are meant; never from the code.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from werkzeug.http import parse_cookie
from werkzeug.test import Client

from tests.visits import Site
from wsgisession import SessionMiddleware, get_session
from wsgisession.wsgi.environ import KEY

WEEK = 7 * 86_400

Environ = dict[str, Any]


# What the app may do with its session.


def leave_alone(environ: Environ) -> None:
    pass


def read(environ: Environ) -> None:
    get_session(environ).get("n")


def change(environ: Environ) -> None:
    get_session(environ)["n"] = 2


def change_inside(environ: Environ) -> None:
    get_session(environ).setdefault("cart", []).append("milk")


def change_and_change_back(environ: Environ) -> None:
    session = get_session(environ)
    before = dict(reversed(list(session.items())))
    session["n"] = 2
    session.clear()
    session.update(before)


def change_the_cookie(environ: Environ) -> None:
    get_session(environ).cookie.same_site = "Strict"


def change_it_and_its_cookie(environ: Environ) -> None:
    change(environ)
    change_the_cookie(environ)


def save(environ: Environ) -> None:
    get_session(environ).save()


def regenerate(environ: Environ) -> None:
    get_session(environ).regenerate()


def regenerate_and_save(environ: Environ) -> None:
    regenerate(environ)
    save(environ)


def destroy(environ: Environ) -> None:
    get_session(environ).destroy()


def destroy_and_write(environ: Environ) -> None:
    destroy(environ)
    change(environ)


def save_and_destroy(environ: Environ) -> None:
    save(environ)
    destroy(environ)


def drop_unread(environ: Environ) -> None:
    environ[KEY] = None


def change_and_drop(environ: Environ) -> None:
    change(environ)
    environ[KEY] = None


def change_and_delete(environ: Environ) -> None:
    change(environ)
    del environ[KEY]


CHANGES = (change, change_inside, change_it_and_its_cookie)
COOKIE_CHANGES = (change_the_cookie, change_it_and_its_cookie)
REGENERATIONS = (regenerate, regenerate_and_save)
ENDS = (destroy, save_and_destroy)
DROPS = (drop_unread, change_and_drop, change_and_delete)
OTHERS = (leave_alone, read, change_and_change_back, change_the_cookie, save, destroy_and_write)
ACTS = (*OTHERS, *CHANGES, *REGENERATIONS, *ENDS, *DROPS)
COMES = ("new", "loaded", "unknown", "forged")


class Case(NamedTuple):
    """One request.

    :param comes: with what: no cookie, a session's, that of a session that is no more, one that does not verify.
    :param lasting: whether the cookie has a Max-Age.
    """

    comes: str
    act: Callable[[Environ], None]
    resave: bool
    save_uninitialized: bool
    rolling: bool
    destroys_when_unset: bool
    lasting: bool

    @property
    def is_loaded(self) -> bool:
        return self.comes == "loaded"

    def __str__(self) -> str:
        flags = [name for name in self._fields[2:] if getattr(self, name)]
        return "-".join([self.comes, self.act.__name__, *flags])


def cases_of(comes: str, act: Callable[[Environ], None]) -> list[Case]:
    """Return the request under every combination of the options."""
    return [Case(comes, act, *flags) for flags in itertools.product([False, True], repeat=5)]


# What must come of it.


class Outcome(NamedTuple):
    """What the store was told to write, before the headers left, and what became of the browser's cookie."""

    calls: tuple[str, ...]
    cookie: str


def expected(case: Case) -> Outcome:
    if case.act in DROPS:
        return on_drop(case)
    if case.act in ENDS:
        return on_destroy(case)
    if case.act is destroy_and_write:
        return Outcome((*on_destroy(case).calls, "create"), "sent")
    if case.act in REGENERATIONS:
        return Outcome(("create", "delete") if case.is_loaded else ("create",), "sent")
    return on_loaded(case) if case.is_loaded else on_new(case)


def on_drop(case: Case) -> Outcome:
    """Setting the environ's session to None ends it only where the option says so, and else leaves all as it is."""
    return on_destroy(case) if case.destroys_when_unset else Outcome((), "left alone")


def on_destroy(case: Case) -> Outcome:
    """Express leaves the dead cookie in the browser: here it is expired, where it was of the session that ended.

    Nothing is written at the end, whatever the options say.
    """
    calls = {"new": (), "loaded": ("delete",), "unknown": ("delete",), "forged": ()}[case.comes]  # unknown: in vain
    if case.act is save_and_destroy:
        calls = ("replace" if case.is_loaded else "create", "delete")
    return Outcome(calls, "expired" if case.comes in ("loaded", "forged") else "left alone")


def on_loaded(case: Case) -> Outcome:
    """Written where it changed, or by ``resave``.

    The cookie is sent by ``rolling``, with a change where it has an expiry to move on, and where it is itself what
    changed, which Express keeps from the browser.
    """
    calls = ("replace",) if case.act in (*CHANGES, change_the_cookie) or case.resave else ()
    if case.act is save:
        calls = ("replace", *calls)
    sent = case.rolling or (case.act in CHANGES and case.lasting) or case.act in COOKIE_CHANGES
    return Outcome(calls, "sent" if sent else "left alone")


def on_new(case: Case) -> Outcome:
    """Stored, and its cookie sent, with its first change or by ``save_uninitialized``.

    A cookie that does not verify, or has no record, is left alone unless the app writes to the session: it may belong
    to another app, or to a request that is late. The options do not count as writing.
    """
    if case.act in (*CHANGES, save) or (case.save_uninitialized and case.comes == "new"):
        return Outcome(("create",), "sent")
    return Outcome((), "left alone")


# The request.


def visitor(site: Site, act: Callable[[Environ], None], comes: str) -> Client:
    """Return a browser that comes with this."""
    browser = site.browser()
    browser.put(n=1, cart=["tea"])
    if comes != "loaded":
        site.manager.revoke(browser.handle)
    client = Client(app_that(act, site))
    if comes != "new":
        client.set_cookie("sid", browser.cookie if comes != "forged" else f"{'A' * 43}.{'A' * 43}")
    site.store.calls.clear()
    return client


def app_that(act: Callable[[Environ], None], site: Site) -> Any:
    def app(environ: Environ, start_response: Any) -> list[bytes]:
        act(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    wrapped = SessionMiddleware(app, site.manager)

    def telling(environ: Environ, start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            return start_response(status, [*headers, ("Told-The-Store", " ".join(told(site)))])

        return wrapped(environ, start)

    return telling


def told(site: Site) -> tuple[str, ...]:
    """Return what the store was told to write since the request began."""
    return tuple(verb for verb in site.store.calls.elements() if verb in ("create", "replace", "delete"))


def outcome_of(site: Site, response: Any) -> Outcome:
    calls = tuple(response.headers["Told-The-Store"].split())
    assert told(site) == calls  # nothing more was written when the headers had left
    headers = response.headers.getlist("Set-Cookie")
    if not headers:
        return Outcome(calls, "left alone")
    (header,) = headers
    return Outcome(calls, "sent" if parse_cookie(header)["sid"] else "expired")


def site_for(case: Case) -> Site:
    return Site(
        resave=case.resave,
        save_uninitialized=case.save_uninitialized,
        rolling=case.rolling,
        unset="destroy" if case.destroys_when_unset else "keep",
        cookie={"max_age": WEEK if case.lasting else None},
    )


@pytest.mark.parametrize("comes", COMES)
@pytest.mark.parametrize("act", ACTS)
def test_what_is_written_and_what_is_sent_under_every_combination_of_the_options(comes, act):
    """SECURITY 13, 22, 39."""
    wrong = {}
    for case in cases_of(comes, act):
        site = site_for(case)
        outcome = outcome_of(site, visitor(site, act, comes).get("/"))
        if outcome != expected(case):
            wrong[str(case)] = (outcome, expected(case))
    assert wrong == {}


@pytest.mark.parametrize("comes", COMES)
@pytest.mark.parametrize("act", ACTS)
def test_no_record_is_without_a_cookie_and_no_cookie_is_sent_without_a_record(comes, act):
    for case in cases_of(comes, act):
        site = site_for(case)
        client = visitor(site, act, comes)
        outcome = outcome_of(site, client.get("/"))
        kept = client.get_cookie("sid")
        found = site.browser(kept.value if kept else "").open()
        assert site.store.handles == (set() if found.is_new else {found.handle}), str(case)
        assert not (outcome.cookie == "sent" and found.is_new), str(case)


@pytest.mark.parametrize("comes", COMES)
@pytest.mark.parametrize("act", [leave_alone, drop_unread])
def test_a_session_that_nobody_looks_at_costs_the_store_nothing(comes, act):
    site = Site()
    response = visitor(site, act, comes).get("/")
    assert not site.store.calls
    assert "Set-Cookie" not in response.headers
    assert "Vary" not in response.headers


@pytest.mark.parametrize("comes", COMES)
def test_a_session_that_is_read_costs_one_load_at_most(comes):
    site = Site()
    visitor(site, read, comes).get("/")
    assert +site.store.calls <= Counter(load=1)


@pytest.mark.parametrize(("comes", "loads"), [("new", 0), ("loaded", 1), ("unknown", 1), ("forged", 0)])
@pytest.mark.parametrize("act", [leave_alone, read, change, change_the_cookie, regenerate])
def test_the_store_is_asked_once_and_only_for_a_cookie_that_verifies(comes, loads, act):
    site = Site(resave=True, rolling=True)
    visitor(site, act, comes).get("/")
    assert site.store.calls["load"] == loads


def test_what_was_saved_and_not_changed_again_is_written_once():
    def change_and_save(environ: Environ) -> None:
        change(environ)
        save(environ)

    for comes, verb in (("new", "create"), ("loaded", "replace")):
        site = Site()
        outcome = outcome_of(site, visitor(site, change_and_save, comes).get("/"))
        assert outcome.calls == (verb,)


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("act", [change, regenerate, destroy_and_write])
def test_a_cookie_lasts_as_long_as_it_is_set_or_as_the_browser(act, lasting):
    site = Site(cookie={"max_age": WEEK if lasting else None})
    header = visitor(site, act, "new").get("/").headers["Set-Cookie"]
    assert (f"Max-Age={WEEK};" in header) is lasting
    assert ("Expires=" in header) is lasting


@pytest.mark.parametrize("lasting", [True, False])
def test_a_cookie_whose_own_lifetime_changed_is_sent_with_it(lasting):
    def change_its_lifetime(environ: Environ) -> None:
        get_session(environ).cookie.max_age = None if lasting else WEEK

    site = Site(cookie={"max_age": WEEK if lasting else None})
    header = visitor(site, change_its_lifetime, "loaded").get("/").headers["Set-Cookie"]
    assert ("Max-Age=" in header) is not lasting


@pytest.mark.parametrize("comes", ["unknown", "forged"])
@pytest.mark.parametrize("act", [change, save, regenerate, destroy_and_write])
def test_a_new_session_never_gets_the_id_that_came(comes, act):
    client = visitor(Site(), act, comes)
    came = client.get_cookie("sid").value
    client.get("/")
    assert client.get_cookie("sid").value.partition(".")[0] != came.partition(".")[0]
