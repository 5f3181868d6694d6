"""The URL of a store, taken apart; and that no message shows a password."""

from __future__ import annotations

import re

import pytest

from wsgisession.errors import ConfigurationError
from wsgisession.stores import StoreURL, open_store
from wsgisession.stores.url import identifier, positive, seconds


@pytest.mark.parametrize("text", ["", "redis", "redis:", "redis:/localhost", "://localhost", "/path/to.db"])
def test_what_is_not_a_url_is_refused(text):
    with pytest.raises(ConfigurationError, match="must be a URL such as"):
        StoreURL(text)


def test_a_url_comes_apart():
    url = StoreURL("RedIS://ali:open%2Fsesame@h1:1,h2:2/0?timeout=3&prefix=a%20b:#part")
    assert (url.scheme, url.location) == ("redis", "ali:open%2Fsesame@h1:1,h2:2/0")
    assert (url.username, url.password) == ("ali", "open/sesame")
    assert url.option("timeout", 2.0, seconds) == 3.0
    assert url.option("timeout", 2.0, seconds) == 2.0
    assert url.rest == {"prefix": "a b:"}
    assert url.driver_url("rediss") == "rediss://ali:open%2Fsesame@h1:1,h2:2/0?prefix=a+b%3A"


def test_a_url_without_credentials_has_none():
    url = StoreURL("sqlite:////var/lib/app.db")
    assert (url.username, url.password) == (None, None)
    assert url.location == "//var/lib/app.db"
    assert url.driver_url() == "sqlite:////var/lib/app.db"


def test_a_url_is_shown_without_its_password():
    url = StoreURL("redis://ali:open-sesame@localhost/0?password=open-sesame")
    assert url.shown == "redis://localhost/0"
    assert "open-sesame" not in repr(url)


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(ConfigurationError, match="names the parameter 'timeout' twice"):
        StoreURL("redis://localhost?timeout=1&timeout=2")


def test_a_parameter_that_cannot_be_decoded_is_refused():
    with pytest.raises(ConfigurationError, match="cannot be decoded"):
        StoreURL("redis://localhost?prefix=%FF")


def test_a_parameter_that_cannot_be_used_is_refused_by_name():
    url = StoreURL("redis://localhost?timeout=soon")
    with pytest.raises(ConfigurationError, match="redis store: timeout='soon' cannot be used"):
        url.option("timeout", 2.0, seconds)


@pytest.mark.parametrize(
    ("name", "hint"), [("timeoot", "did you mean 'timeout'?"), ("x", "it takes timeout and prefix")]
)
def test_an_unknown_parameter_is_refused_with_the_intended_or_all_known_ones(name, hint):
    with pytest.raises(ConfigurationError, match=re.escape(f"unknown parameter {name!r}; {hint}")):
        StoreURL(f"memory://?{name}=1").refuse_rest("timeout and prefix")


@pytest.mark.parametrize(
    ("converter", "text", "fix"),
    [
        (seconds, "soon", "give a positive number of seconds"),
        (seconds, "0", "give a positive number of seconds"),
        (seconds, "nan", "give a positive number of seconds"),
        (positive, "many", "give a whole number of at least 1"),
        (positive, "0", "give a whole number of at least 1"),
        (positive, "1.5", "give a whole number of at least 1"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_the_fix(converter, text, fix):
    with pytest.raises(ConfigurationError, match=f"={text!r} cannot be used: {fix}"):
        StoreURL(f"memory://?option={text}").option("option", None, converter)


@pytest.mark.parametrize(
    ("convert", "bad"),
    [(seconds, text) for text in ("", "0", "-1", "nan", "inf", "1e7", "1s")]
    + [(positive, text) for text in ("", "0", "-1", "1.5", "many")]
    + [(identifier, text) for text in ("", "a\0", "a\n", "x" * 64, "é" * 32)],
)
def test_a_value_out_of_range_is_not_a_value(convert, bad):
    with pytest.raises(ValueError):
        convert(bad)


def test_values_are_converted():
    assert (seconds("0.25"), positive("7"), identifier('Odd "name"')) == (0.25, 7, 'Odd "name"')


# Passwords


SIGNS = ["?", "#", "/", "@", "??#", "?a=b", "#?/@", "&a=b?c"]
PLACES = ["h", "h:6379/0", "h1:1,h2:2/m", "[::1]:6379/0", "h/0?timeout=3"]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("user", ["", "ali"])
def test_a_password_may_contain_what_ends_the_part_before_a_path(sign, place, user):
    url = StoreURL(f"redis://{user}:open{sign}sesame@{place}")
    assert (url.username or "", url.password) == (user, f"open{sign}sesame")
    assert url.shown == f"redis://{place.partition('?')[0]}"
    assert url.rest == ({"timeout": "3"} if "?" in place else {})


@pytest.mark.parametrize(
    "password", ["12?34secret", "12#34secret", "12?a=34secret", "?secret", "#secret", "%3F?secret"]
)
@pytest.mark.parametrize("scheme", ["redis", "postgresql", "mongodb", "redis+cluster", "redis+sentinel"])
@pytest.mark.parametrize("end", ["@", "@h", "@h:1/0", "@h:1/0?timeout=soon", "@h:x/0", "", "/0", "?timeout=soon"])
@pytest.mark.parametrize("user", ["", "ali"])
def test_no_message_shows_a_password_or_a_part_of_one(password, scheme, end, user):
    url = f"{scheme}://{user}:{password}{end}"
    texts = []
    try:
        store = open_store(url)
        texts += [repr(store), str(store)]
        store.close()
    except ConfigurationError as error:
        texts += [str(error), repr(error)]
    try:
        texts.append(repr(StoreURL(url)))
    except ConfigurationError as error:
        texts.append(str(error))
    assert not any("secret" in text or "34" in text for text in texts), texts


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0?username=a@b",
        "postgresql://u:p@h:5432/d?user=a@b",
        "unix:///run/a:b@c?prefix=x",
        "sqlite:////var/a:b@c",
        "mongodb://u:p@h:10255/?appName=@account@",
    ],
)
def test_what_is_not_a_password_is_left_as_it_is(url):
    parsed = StoreURL(url)
    assert url.startswith(f"{parsed.scheme}://{parsed.location}")
    assert parsed.password in (None, "p")
