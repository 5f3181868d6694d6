"""URLs of MongoDB: which parameters are the store's, which are pymongo's, and which cannot be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import pymongo.errors
from pymongo import MongoClient, uri_parser

from ...errors import ConfigurationError
from ..base import StoreURL

Document = dict[str, Any]

OPTIONS = ("collection", "timeout", "max_connections", "max_idle", "stringify")
_PAIRS = ":,"  # separate pairs in the value of an option, where pymongo does not decode them
_PROPER = "write mongodb://user:password@host:27017/database, with special characters as %XX"


def true_or_false(text: str) -> bool:
    """Convert a parameter that is on or off.

    :raises ValueError: for anything else.
    """
    if text not in ("true", "false"):
        raise ValueError('give "true" or "false"')
    return text == "true"


def is_srv(url: str) -> bool:
    """Tell whether the hosts of a URL are in the DNS."""
    return url.startswith("mongodb+srv://")


def parsed_url(url: str) -> Document:
    """Take a URL apart as pymongo does, and have it check every option, without looking up or connecting.

    :raises ConfigurationError: if pymongo does not accept it, or a store of sessions cannot use it.
    """
    parts = StoreURL(url)
    if parts.scheme not in ("mongodb", "mongodb+srv"):
        raise _unusable("it must begin with mongodb:// or mongodb+srv://")
    for name in parts.rest if is_srv(url) else ():
        if name.lower().startswith("srv"):
            parts.option(name, "", str)
    plain = driver_url(parts, "mongodb")
    try:
        for name, value in parts.rest.items():
            _check_option(name, value)
        parsed: Document = uri_parser.parse_uri(plain, default_port=None, warn=False)
        MongoClient(plain, connect=False).close()
    except (pymongo.errors.PyMongoError, ValueError, TypeError, OSError) as error:
        # These may quote the password: if a "?" in it was not escaped, the rest of it has become a parameter.
        if isinstance(error, pymongo.errors.InvalidURI) or ("@" not in parts.location and "%40" in plain):
            raise _unusable(_PROPER) from None
        if isinstance(error, ConfigurationError):
            raise
        raise _unusable(str(error)) from None
    if parsed["collection"]:
        raise _unusable("give the collection as ?collection=, not after the database")
    if parsed["options"].get("w") == 0:
        raise _unusable("with w=0 nobody knows whether a session was stored or ended; leave it out")
    if is_srv(url) and (len(parsed["nodelist"]) > 1 or parsed["nodelist"][0][1]):
        raise _unusable("mongodb+srv needs exactly one host, without a port")
    return parsed


def _check_option(name: str, value: str) -> None:
    try:
        uri_parser.split_options(urlencode({name: value}, safe=_PAIRS))
    except pymongo.errors.ConfigurationError:
        close = difflib.get_close_matches(name, OPTIONS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(OPTIONS)}, or an option of pymongo's URLs"
        raise ConfigurationError(f"mongodb store: unknown parameter {name!r}; {hint}") from None


def driver_url(url: StoreURL, scheme: str, *, without: Iterable[str] = ()) -> str:
    """Return the URL for pymongo, without some of the parameters."""
    options = {name: value for name, value in url.rest.items() if name not in without}
    return f"{scheme}://{url.location}?{urlencode(options, safe=_PAIRS)}"


def _unusable(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the URL of the mongodb store cannot be used: {reason}")


def driver_options(url: str, parsed: Document, *, timeout: float, **defaults: int) -> Document:
    """Return the driver's options.

    :param defaults: options that the URL may have set.
    """
    given = parsed["options"]
    options: Document = {name: value for name, value in defaults.items() if name not in given}
    if is_srv(url):  # for each of the two records that are looked up, outside of any deadline
        options["connectTimeoutMS"] = round(1000 * min(timeout / 2, given.get("connectTimeoutMS") or timeout))
    return options
