"""What values become when they are stored: every rule, in the native format and in the JSON of the Express format."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import math
import time
import uuid
from datetime import date, datetime, timedelta, timezone, tzinfo
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

import numpy
import pytest
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject, lazy
from django.utils.safestring import mark_safe
from flask_login import UserMixin
from markupsafe import Markup
from werkzeug.datastructures import CombinedMultiDict, ImmutableMultiDict, MultiDict
from werkzeug.local import LocalProxy

from wsgisession._core.forms import MAX_INT, expanded, key_form, key_text, native_form
from wsgisession.errors import SerializationError
from wsgisession.express.forms import express_form

PATH = ("cart", 3, "when")


class Role(enum.Enum):
    ADMIN = "admin"
    POINT = (1, 2)


class TextRole(str, enum.Enum):
    ADMIN = "admin"

    def __html__(self) -> str:
        return "<b>admin</b>"


class Level(enum.IntEnum):
    HIGH = 3


class Permission(enum.IntFlag):
    READ = 1
    WRITE = 2


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Address:
    city: str
    tags: tuple[str, ...] = ()
    role: Role = Role.ADMIN


@dataclasses.dataclass
class Basket(dict):  # type: ignore[type-arg]
    """A dict that is a dataclass too: the listed type among its bases decides."""

    owner: str = "ada"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Count(int):
    def __repr__(self) -> str:
        return "something else"

    def __index__(self) -> int:
        return 99


class Rows(list):  # type: ignore[type-arg]
    pass


class Moment(datetime):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "something else"


class Span(timedelta):
    @property
    def days(self) -> int:  # type: ignore[override]
        return 99


class LazyText:
    """As Flask-Babel's lazy translations."""

    def __str__(self) -> str:
        return "hello"

    def __html__(self) -> str:
        return "hello"


class Widget:
    """As forms that can show themselves: an object with ``__html__`` that is not a string."""

    def __html__(self) -> str:
        return "<input>"


class DictWithHtml(dict):  # type: ignore[type-arg]
    def __html__(self) -> str:
        return "<dl>"


AT = datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "native", "express"),
    [
        pytest.param(Role.ADMIN, "admin", "admin", id="an Enum member is its value"),
        pytest.param(TextRole.ADMIN, "admin", "admin", id="also if it is a str, and has __html__"),
        pytest.param(Level.HIGH, 3, 3, id="also if it is an int"),
        pytest.param(Permission.READ | Permission.WRITE, 3, 3, id="a combination of flags is its number"),
        pytest.param(Role.POINT, {"~tuple": [1, 2]}, [1, 2], id="the value of a member may be any value"),
        pytest.param(lazy(lambda: "hi", str)(), "hi", "hi", id="a Django Promise is its text"),
        pytest.param(lazy(lambda: mark_safe("<i>"), str)(), "<i>", "<i>", id="a Promise of safe text is text too"),
        pytest.param(mark_safe("<b>"), {"~markup": "<b>"}, "<b>", id="a SafeString is Markup"),
        pytest.param(LazyText(), {"~markup": "hello"}, "hello", id="a lazy string with __html__ is Markup"),
        pytest.param(DictWithHtml(a=1), {"a": 1}, {"a": 1}, id="a dict with __html__ is a dict"),
        pytest.param(collections.OrderedDict(a=1), {"a": 1}, {"a": 1}, id="OrderedDict"),
        pytest.param(collections.defaultdict(list, a=[1]), {"a": [1]}, {"a": [1]}, id="defaultdict"),
        pytest.param(collections.Counter("aab"), {"a": 2, "b": 1}, {"a": 2, "b": 1}, id="Counter"),
        pytest.param(MultiDict([("a", 1), ("a", 2)]), {"a": 1}, {"a": 1}, id="MultiDict: the first values"),
        pytest.param(ImmutableMultiDict([("a", "1")]), {"a": "1"}, {"a": "1"}, id="request.form"),
        pytest.param(
            CombinedMultiDict([MultiDict({"a": 1}), MultiDict({"b": 2})]),
            {"a": 1, "b": 2},
            {"a": 1, "b": 2},
            id="values",
        ),
        pytest.param(MultiValueDict({"a": ["1", "2"]}), {"a": "2"}, {"a": "2"}, id="QueryDict's base: the last values"),
        pytest.param(Point(1, 2), {"~tuple": [1, 2]}, [1, 2], id="a namedtuple is a tuple"),
        pytest.param(Rows([1]), [1], [1], id="a list's subclass"),
        pytest.param(Text("x"), "x", "x", id="a str's subclass is the text that it holds"),
        pytest.param(Count(7), 7, 7, id="an int's subclass is the number that it holds"),
        pytest.param(type("Price", (float,), {})(1.5), 1.5, 1.5, id="a float's subclass"),
        pytest.param(
            Moment(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone.utc),
            {"~datetime": "2026-01-02T03:04:05.678999+00:00"},
            "2026-01-02T03:04:05.678Z",
            id="a datetime's subclass",
        ),
        pytest.param(
            Address("Paris", ("a",)),
            {"city": "Paris", "tags": {"~tuple": ["a"]}, "role": "admin"},
            {"city": "Paris", "tags": ["a"], "role": "admin"},
            id="a dataclass is a dict, with its values by the same rules",
        ),
        pytest.param(Basket("bob"), {}, {}, id="a dict that is a dataclass is a dict"),
        pytest.param(LocalProxy(lambda: {"a": Role.ADMIN}), {"a": "admin"}, {"a": "admin"}, id="LocalProxy"),
        pytest.param(SimpleLazyObject(lambda: [1]), [1], [1], id="SimpleLazyObject"),
        pytest.param({"~set": [1]}, {"~dict": {"~set": [1]}}, {"~set": [1]}, id="a dict that looks like a tag"),
        pytest.param(
            {7: {None: {True: {1.5: 1}}}},
            {"~map": [[7, {"~map": [[None, {"~map": [[True, {"~map": [[1.5, 1]]}]]}]]}]]},
            {"7": {"null": {"true": {"1.5": 1}}}},
            id="keys that are not str, at any depth",
        ),
        pytest.param({Role.ADMIN: 1}, {"admin": 1}, {"admin": 1}, id="an Enum key is its value"),
        pytest.param({Text("a"): 1}, {"a": 1}, {"a": 1}, id="a key of a str's subclass is a str"),
        pytest.param({Level.HIGH: 1}, {"~map": [[3, 1]]}, {"3": 1}, id="an IntEnum key is its number"),
        pytest.param(AT, {"~datetime": "2026-01-02T03:04:05.678999+00:00"}, "2026-01-02T03:04:05.678Z", id="datetime"),
        pytest.param((1, (2,)), {"~tuple": [1, {"~tuple": [2]}]}, [1, [2]], id="tuple"),
        pytest.param(Markup("<i>"), {"~markup": "<i>"}, "<i>", id="Markup"),
    ],
)
def test_a_value_is_stored_as_the_first_rule_says(value, native, express):
    for form, expected in ((native_form(value, PATH), native), (express_form(value, PATH), express)):
        assert repr(form) == repr(expected)  # the types count too


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Span(1, 2, 3), {"~timedelta": [1, 2, 3]}),
        (type("Day", (date,), {})(2026, 1, 2), {"~date": "2026-01-02"}),
        (type("Clock", (time_of_day,), {})(1, 2), {"~time": "01:02:00"}),
        (type("Money", (Decimal,), {})("1.10"), {"~decimal": "1.10"}),
        (type("ID", (uuid.UUID,), {})(int=7), {"~uuid": str(uuid.UUID(int=7))}),
        (type("Blob", (bytes,), {})(b"\0"), {"~bytes": "AA=="}),
        (type("Tags", (set,), {})([2, 1]), {"~set": [1, 2]}),
        (type("Html", (Markup,), {})("<b>"), {"~markup": "<b>"}),
        (math.inf, {"~float": "inf"}),
        (type("Ratio", (float,), {})("nan"), {"~float": "nan"}),
        ({"\ud800": "\udfff"}, {"~map": [[{"~str": "7aCA"}, {"~str": "7b+/"}]]}),
        (MAX_INT, MAX_INT),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_the_native_format_also_has_a_form_for(value, form):
    assert repr(native_form(value, PATH)) == repr(form)


def test_numpy_scalars_are_stored_as_python_numbers():
    values = [numpy.int64(7), numpy.float64(1.5), numpy.float32(0.5), numpy.bool_(True), numpy.str_("x")]
    for form in (native_form, express_form):
        assert repr(form(values, PATH)) == "[7, 1.5, 0.5, True, 'x']"
        assert repr(form({numpy.float64(1.5): 1}, PATH)) in ("{'~map': [[1.5, 1]]}", "{'1.5': 1}")
    with pytest.raises(SerializationError, match="numpy.longdouble .*store a float"):
        native_form(numpy.longdouble(1), PATH)
    with pytest.raises(SerializationError, match=r"numpy\.ndarray are not supported"):
        native_form(numpy.array([1]), PATH)


class User(UserMixin):
    id = 7


class Password:
    def __repr__(self) -> str:
        return "hunter2"


class Summer(tzinfo):
    """A zone whose offset depends on the day, as in most zones."""

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return None if at is None else timedelta(hours=2)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (User(), "values of type tests.test_forms.User are not supported; store a str, list, or dict made from it"),
        (LocalProxy(User), "values of type tests.test_forms.User are not supported"),
        (Widget(), "Widget are not supported"),
        (Password(), "Password are not supported"),
        (Role, "enum.EnumType|EnumMeta"),
        (Address, "builtins.type are not supported"),
        (1j, "builtins.complex are not supported"),
        (bytearray(b"x"), "builtins.bytearray are not supported"),
        ((x for x in ()), "builtins.generator are not supported"),
        (MAX_INT + 1, "int|Node.js would round"),
        ({math.nan: 1}, "the key nan is not a number; use a str as key"),
        ({-math.inf: 1}, "the key -inf is not a number"),
        ({(1, 2): 1}, r"the key \(1, 2\) is a tuple; use a str, int, float, bool, or None as key"),
        ({b"x": 1}, "the key b'x' is a bytes"),
        ({Role.POINT: 1}, r"the key \(1, 2\) is a tuple"),
        ({1: "a", "1": "b"}, "two keys whose text is '1'; remove one of them"),
        ({None: "a", "null": "b"}, "two keys whose text is 'null'"),
        ({True: "a", "true": "b"}, "two keys whose text is 'true'"),
        ({Role.ADMIN: "a", "admin": "b"}, "two keys whose text is 'admin'"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", [native_form, express_form])
def test_anything_else_is_refused_with_path_type_and_fix(form, value, reason):
    with pytest.raises(
        SerializationError, match=rf"^session\['cart'\]\[3\]\['when'\] cannot be stored: .*({reason})"
    ) as error:
        form(value, PATH)
    assert "hunter2" not in str(error.value)
    with pytest.raises(SerializationError, match=r"^session\['a'\]\['b'\]\[1\]\['c'\] cannot be stored"):
        form({"b": [0, {"c": value}]}, ("a",))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "JSON has no nan; store None or a str"),
        (2**53 + 1, "an int that Node.js would round; store it as a str"),
        (b"x", "bytes are not supported in JSON, which Express stores; store a str, such as base64"),
        ({1}, "set are not supported in JSON, which Express stores; store a list"),
        (Decimal(1), "Decimal are not supported in JSON, which Express stores; store a str"),
        (uuid.UUID(int=1), "UUID are not supported"),
        (date(2026, 1, 1), "date are not supported"),
        (timedelta(1), "timedelta are not supported"),
    ],
    ids=repr,
)
def test_the_express_format_also_refuses_what_json_lacks(value, reason):
    with pytest.raises(SerializationError, match=reason):
        express_form([value], PATH)


class NotATime(datetime):
    """As pandas' NaT, which is a datetime and not equal to itself."""

    def __ne__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize("form", [native_form, express_form])
def test_a_datetime_that_is_not_a_time_is_refused(form):
    with pytest.raises(SerializationError, match="a NotATime is not a time; store None"):
        form(NotATime(2026, 1, 1), PATH)


def test_a_time_whose_zone_has_no_fixed_offset_is_refused():
    with pytest.raises(SerializationError, match="no fixed offset; store a datetime"):
        native_form(time_of_day(12, tzinfo=Summer()), PATH)


def test_with_text_keys_the_native_format_stores_keys_as_json_text():
    value = {1: {None: {True: {1.5: {"a": (1,)}}}}}
    assert native_form(value, PATH, text_keys=True) == {"1": {"null": {"true": {"1.5": {"a": {"~tuple": [1]}}}}}}


@pytest.mark.parametrize("key", ["a", "", 7, -1, 1.5, 1e300, True, False, None])
def test_a_key_has_the_text_that_pythons_json_gives_it(key):
    assert json.loads(json.dumps({key: 1})) == {key_text(key_form(key)): 1}


@pytest.mark.parametrize(
    "wrap", [list, tuple, frozenset, lambda items: {"k": items[0]}, lambda items: Point(0, items[0])]
)
@pytest.mark.parametrize("form", [native_form])
def test_a_value_may_be_nested_a_hundred_levels_deep_and_no_deeper(form, wrap):
    value: Any = 1
    for _ in range(100):
        value = wrap([value])
    form(value, PATH)
    for more in (1, 2000):
        for _ in range(more):
            value = wrap([value])
        with pytest.raises(SerializationError, match="100 levels deep, or contains itself; store a flatter value"):
            form(value, PATH)


@pytest.mark.parametrize("form", [native_form, express_form])
def test_a_value_that_contains_itself_is_refused(form):
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(SerializationError, match="contains itself"):
        form(loop, PATH)


@pytest.mark.parametrize(
    "pair", [lambda x: [x, x], lambda x: (x, x), lambda x: {"a": x, "b": x}, lambda x: Rows([x, x])]
)
@pytest.mark.parametrize("form", [native_form, express_form])
def test_a_list_that_contains_the_same_list_twice_at_each_of_many_levels_is_refused_quickly(form, pair):
    value: Any = "x"
    for _ in range(60):
        value = pair(value)
    began = time.process_time()
    with pytest.raises(
        SerializationError, match=r"^session\['cart'\]\[3\]\['when'\] cannot be stored: it is too large"
    ):
        form(value, PATH)
    assert time.process_time() - began < 2  # written out it would have 2**60 items


def test_repeated_items_are_counted_each_time():
    once = [1, 2, {"a": 3}]
    assert expanded(once) == 4
    assert expanded([once, once]) == 10
    assert expanded({"a": [once], "b": (once, once)}) == 5 + 3 * 4


def test_the_same_list_under_many_keys_is_stored_under_each():
    shared = list(range(100))
    assert native_form([shared] * 1000, PATH) == [shared] * 1000


@pytest.mark.parametrize("path", [("k" * 10_000,), ("first", "k" * 10_000, "last")])
def test_of_a_long_path_the_ends_are_shown(path):
    with pytest.raises(SerializationError, match=r"^session\['.*kkk\.\.\.kkk.*'\] cannot be stored") as refused:
        native_form(object(), path)
    assert len(str(refused.value)) < 400


def test_a_tree_whose_nodes_know_their_parent_is_refused_at_once():
    root: dict[str, Any] = {"children": [{}, {}]}
    for child in root["children"]:
        child["parent"] = root
    with pytest.raises(SerializationError, match=r"session\['root'\]\['children'\]\[0\]\['parent'\].* contains itself"):
        native_form(root, ("root",))
