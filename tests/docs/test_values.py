"""Each row of the tables in "What a session can hold" is what happens, in the native format and in that of Express."""

from __future__ import annotations

import collections
import dataclasses
import enum
import importlib
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy
import pytest
from authlib.oauth2.rfc6749 import OAuth2Token
from django.http import QueryDict
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from markupsafe import Markup
from werkzeug.datastructures import MultiDict
from werkzeug.local import LocalProxy

from tests.django_project import set_up
from tests.docs.pages import blocks, names, rows
from tests.same import same
from wsgisession import SerializationError
from wsgisession._core.codec import NativeCodec
from wsgisession._core.cookies import CookieOptions
from wsgisession.express.codec import ExpressCodec

set_up()

PAGE = "values.md"


class Role(enum.Enum):
    ADMIN = "admin"


class Status(str, enum.Enum):
    PAID = "paid"


@dataclasses.dataclass
class Address:
    city: str


class LazyString:
    """As Flask-Babel's."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    __html__ = __str__


class Name(str):
    __slots__ = ()


class Moment(datetime):
    pass


WORDS: dict[str, Any] = {
    **{kind.__name__: kind for kind in (Role, Status, Address, LazyString, Name, Moment)},
    **{kind.__name__: kind for kind in (date, datetime, time, timedelta, Decimal, UUID, Markup)},
    **{kind.__name__: kind for kind in (OAuth2Token, QueryDict, MultiDict, LocalProxy)},
    **{name: getattr(collections, name) for name in ("OrderedDict", "defaultdict", "Counter")},
    "Point": collections.namedtuple("Point", "x y"),
    "mark_safe": mark_safe,
    "gettext_lazy": lazystr,
    "numpy": numpy,
}
"""What the expressions in the tables mean."""

FORMATS = {
    "native": NativeCodec(max_size=1 << 20),
    "express": ExpressCodec(max_size=1 << 20, options=CookieOptions(), dates=False, clock=lambda: 1e9),
}

TABLES = [*rows(PAGE, "Types that come back as they were"), *rows(PAGE, "Values that are converted")]


def meaning(cell: str) -> Any:
    """Return the value of the last expression in a cell."""
    return eval(names(cell)[-1], WORDS)


def found_by_the_next_request(value: Any, format: str = "native") -> Any:
    format = FORMATS[format]
    return format.decode(format.encode("value", value))


@pytest.mark.parametrize(("stored", "native", "express"), TABLES, ids=lambda cell: cell)
def test_the_next_request_finds_what_the_table_says(stored, native, express):
    assert same(found_by_the_next_request(meaning(stored)), meaning(native))
    if express.startswith("refused"):
        with pytest.raises(SerializationError):
            found_by_the_next_request(meaning(stored), format="express")
    else:
        assert same(found_by_the_next_request(meaning(stored), format="express"), meaning(express))


def test_the_error_has_the_words_that_the_page_shows():
    kind = type("Moment", (), {"__module__": "app"})
    with pytest.raises(SerializationError) as error:
        found_by_the_next_request([0, 1, 2, {"when": kind()}])
    (shown,) = blocks(PAGE, "text")
    assert str(error.value).replace("['value']", "['cart']") == " ".join(shown.split())


def test_the_gettext_lazy_of_the_table_is_django_s_promise():
    promise = importlib.import_module("django.utils.functional").Promise
    assert isinstance(meaning('`gettext_lazy("hello")`'), promise)
