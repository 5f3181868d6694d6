"""Cookies of express-session, byte for byte: what the real one sent and took, replayed (tests/vectors)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.environs import request
from wsgisession import SessionManager
from wsgisession._core.cookies import cookie_finder
from wsgisession.express.cookie import ExpressSigner, decoded

KNOWN = json.loads((Path(__file__).parent / "vectors" / "express_cookies.json").read_text())
VECTORS, ATTRIBUTES = KNOWN["vectors"], KNOWN["attributes"]
MADE = [vector for vector in VECTORS if "value" in vector]


def secrets_of(vector):
    return [bytes.fromhex(one["hex"]) if isinstance(one, dict) else one.encode() for one in vector["secrets"]]


def first_id(vector):
    """Return the ID that the first cookie of the name verifies as, which is all that Express looks at."""
    signer = ExpressSigner(secrets_of(vector))
    values = list(cookie_finder(vector["name"])(vector["cookie_header"]))
    return signer.unsign(values[0]) if values and signer.has_shape(values[0]) else None


def test_there_are_vectors():
    assert len(VECTORS) == 369
    assert len(ATTRIBUTES) == 38
    assert len(MADE) > 50


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_a_cookie_verifies_or_is_refused_as_at_express(number):
    assert first_id(VECTORS[number]) == VECTORS[number]["expected_id"]


@pytest.mark.parametrize("number", range(len(MADE)))
def test_a_cookie_is_signed_byte_for_byte_as_at_express(number):
    made = MADE[number]
    assert ExpressSigner(secrets_of(made)).sign(made["id"]) == made["value"]
    assert made["set_cookie"].startswith(f"{made['name']}={made['value']};")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%C3%A9", "é"),
        ("é%C3%A9", "éé"),
        ("%", "%"),
        ("100%", "100%"),
        ("%zz%41", "%zz%41"),
        ("%ff", "%ff"),
        ("%41%ff", "%41%ff"),
        ("%C3x%A9", "%C3x%A9"),
        ("%ED%A0%80", "%ED%A0%80"),
        ("%u0041", "%u0041"),
    ],
)
def test_percent_signs_are_undone_as_by_decode_uri_component(value, plain):
    assert decoded(value) == plain


def test_the_second_of_two_cookies_of_one_name_counts_where_the_first_is_none_of_ours():
    manager = SessionManager(secret="for the tests, and long enough", format="express", name="connect.sid")
    session = manager.open("", None)
    session["n"] = 1
    manager.commit(session, request())
    value = manager._services.signer.sign(session.id)
    assert manager.open(f"connect.sid=s%3Aforged.x; connect.sid={value}", None)["n"] == 1


# How each of Express's options is said here, with what differs.
NAMES = {"httpOnly": "http_only", "sameSite": "same_site"}


def option_of(name, value):
    if name == "sameSite":
        return {True: "Strict"}.get(value, value)
    return value


def attributes(header):
    pairs = (attribute.partition("=") for attribute in header.split("; ")[1:])
    return {name.lower(): value.lstrip(".") if name == "Domain" else value for name, _, value in pairs}


def as_here(vector):
    """Return the options for our cookie, or None where they have no counterpart."""
    options = dict(vector["options"])
    if options.pop("priority", None) or options.pop("expires", None) or options.get("sameSite") in (False, "auto"):
        return None
    return {NAMES.get(name, name): option_of(name, value) for name, value in options.items()}


@pytest.mark.parametrize("vector", [vector for vector in ATTRIBUTES if as_here(vector) is not None])
def test_the_cookie_has_the_attributes_that_express_gives_it(vector):
    options = as_here(vector)
    manager = SessionManager(
        secret="for the tests, and long enough",
        format="express",
        name="connect.sid",
        cookie=options,
        genid=lambda _: vector["id"],
    )
    if not manager.cookie.covers("/"):
        assert vector["set_cookie"] is None
        return
    session = manager.open("", None)
    session["n"] = 1
    ours = attributes(manager.commit(session, request(scheme=vector["proto"], host="localhost")).set_cookie)
    if vector["set_cookie"] is None:  # it stored the session all the same; here what is stored is sent (v)
        assert "secure" in ours
        return
    theirs = attributes(vector["set_cookie"])
    if "same_site" not in options:
        assert ours.pop("samesite") == "Lax"
    if "secure" not in options:  # ours is "auto", which Express must be asked for
        assert (ours.pop("secure", None) is not None) == (vector["proto"] == "https")
    assert ours == theirs
