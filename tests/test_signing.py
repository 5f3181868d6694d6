"""The cookie's value is matched against its exact shape, then against its signature; no secret is a weak one."""

from __future__ import annotations

import base64
import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgisession._core.ids import IDSigner, parse_secrets
from wsgisession.errors import ConfigurationError

OLD, NEW = b"an old secret of some length", b"a new secret of some length!"
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

signer = IDSigner([NEW])
ids = st.binary(min_size=32, max_size=32).map(signer.new_id)


@given(ids)
def test_what_was_signed_has_the_shape_and_verifies(session_id):
    value = signer.sign(session_id)
    assert signer.has_shape(value)
    assert signer.unsign(value) == session_id


def test_an_id_is_43_characters_that_hold_256_bits():
    assert signer.new_id(bytes(32)) == "A" * 43
    assert signer.new_id(b"\xff" * 32) == "_" * 42 + "8"


def test_the_value_is_an_id_and_a_signature_with_a_dot_between():
    session_id, _, signature = signer.sign("A" * 43).partition(".")
    assert (session_id, len(signature)) == ("A" * 43, 43)


@given(ids, st.integers(0, 86), st.sampled_from(ALPHABET + "."))
def test_a_value_of_which_one_character_is_another_never_verifies(session_id, position, character):
    """SECURITY 48."""
    value = signer.sign(session_id)
    forged = value[:position] + character + value[position + 1 :]
    assert forged == value or not signer.has_shape(forged) or signer.unsign(forged) is None


@pytest.mark.parametrize("position", [42, 86])
def test_another_spelling_of_the_last_bits_is_refused(position):
    """A decoder would drop the two bits to spare: four values would verify as one."""
    value = signer.sign(signer.new_id(bytes(range(32))))
    spellings = [value[:position] + letter + value[position + 1 :] for letter in ALPHABET]
    assert sum(map(signer.has_shape, spellings)) == 16
    assert [one for one in spellings if signer.has_shape(one) and signer.unsign(one)] == [value]


GOOD = signer.sign(signer.new_id(bytes(32)))


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        GOOD[:-1],
        GOOD + "A",
        GOOD + "\n",
        " " + GOOD,
        GOOD + "=",
        GOOD.replace(".", ":"),
        GOOD.replace(".", ".."),
        GOOD[:43],
        f"{GOOD}.{GOOD}",
        GOOD.replace("A", "%41", 1),
        GOOD.replace("A", "Ａ", 1),
        GOOD.replace("A", "/", 1),
        "*" * 87,
        "\x00" * 87,
        "x" * 100_000,
        signer.handle("A" * 43),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_value_of_another_shape_is_refused_before_its_signature_is_looked_at(value):
    """SECURITY 45, 48."""
    assert not signer.has_shape(value)


@given(st.text())
def test_any_text_is_refused_without_an_exception(value):
    assert not signer.has_shape(value)
    assert signer.unsign(value) is None


def test_the_first_secret_signs_and_all_verify():
    rotated = IDSigner([NEW, OLD])
    value = rotated.sign("A" * 43)
    assert value == IDSigner([NEW]).sign("A" * 43)
    assert rotated.unsign(IDSigner([OLD]).sign("A" * 43)) == "A" * 43
    assert IDSigner([OLD]).unsign(value) is None


@given(ids)
def test_the_handle_is_never_the_id_and_opens_nothing(session_id):
    """SECURITY 44, 45: what the store knows is no cookie, and does not lead to one."""
    handle = signer.handle(session_id)
    assert session_id not in handle
    assert handle == IDSigner([OLD]).handle(session_id)
    assert not signer.has_shape(handle)
    assert not signer.has_shape(f"{handle[1:]}.{handle[1:]}") or signer.unsign(f"{handle[1:]}.{handle[1:]}") is None


def test_the_handle_is_the_scheme_s_version_and_a_sha_256_of_the_id():
    """SECURITY 44: records outlive a release, so it must not change by accident."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"A" * 43).digest()).decode().rstrip("=")
    assert signer.handle("A" * 43) == "1" + digest


def test_an_id_of_the_app_s_own_may_have_16_to_128_characters_of_base64url():
    own = IDSigner([NEW], own_ids=True)
    assert [size for size in range(140) if own.accepts("a" * size)] == list(range(16, 129))
    for refused in ("a" * 16 + "\n", "a" * 16 + ".", "é" * 16, "a b" * 8):
        assert not own.accepts(refused)
    value = own.sign("user-17-sessions")
    assert own.has_shape(value)
    assert own.unsign(value) == "user-17-sessions"


def test_an_id_that_follows_another_needs_the_secret_and_the_nonce():
    first = signer.new_id(bytes(32))
    second = signer.renewed_id(first, "nonce")
    assert second == signer.renewed_id(first, "nonce")
    assert signer.has_shape(signer.sign(second))
    others = {signer.renewed_id(first, "other"), IDSigner([OLD]).renewed_id(first, "nonce"), first}
    assert second not in others


def test_an_id_is_followed_with_any_of_the_secrets():
    first = signer.new_id(bytes(32))
    second = IDSigner([OLD]).renewed_id(first, "nonce")
    assert IDSigner([NEW, OLD]).follow(first, "nonce", handle=signer.handle(second)) == second
    assert signer.follow(first, "nonce", handle=signer.handle(second)) is None


@pytest.mark.parametrize(
    ("secret", "parsed"),
    [
        ("a secret as it should be", (b"a secret as it should be",)),
        (b"\x00\xff a secret of bytes", (b"\x00\xff a secret of bytes",)),
        ([OLD, NEW.decode()], (OLD, NEW)),
        ((NEW,), (NEW,)),
        ("16bytes1616bytes", (b"16bytes1616bytes",)),
        ("zbcdefabcdefabcd", (b"zbcdefabcdefabcd",)),
        ("pässwörter als geheimnis", ("pässwörter als geheimnis".encode(),)),
        ("\udcff from the environment", (b"\xed\xb3\xbf from the environment",)),
    ],
)
def test_a_secret_is_text_or_bytes_or_several(secret, parsed):
    assert parse_secrets(secret) == parsed


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "15 bytes of it!",
        "keyboard cat",
        "keyboard cat keyboard cat",
        "Keyboard_Cat and more of it",
        "changeme-changeme",
        "please change this",
        "your-secret-key-here",
        "super secret super secret",
        "the secret key 123",
        "development_key_1234",
        "django-insecure-3z(u5x!f0v&2",
        "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
        "a" * 64,
        "abababababababababab",
        "abcdeabcdeabcdeabcde",
        "1234567890123456",
        "passwordpassword",
        "qwertyuiopasdfgh",
        "ABCDEFGHIJKLMNOPQRST",
        b"\x00" * 32,
        [],
        (),
        [NEW, "short"],
        None,
        7,
        [NEW, 7],
        bytearray(NEW),
        {"secret": NEW},
    ],
    ids=repr,
)
def test_a_secret_that_is_short_well_known_or_none_is_refused_with_the_command_that_makes_one(secret):
    with pytest.raises(ConfigurationError, match="wsgisession secret") as refused:
        parse_secrets(secret)
    shown = str(refused.value).partition("; make one")[0]
    if isinstance(secret, str) and len(secret) > 3:
        assert secret not in shown
