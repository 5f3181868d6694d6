"""The wire format: headers as the draft and as Chromium write them, session instructions, and proofs."""

from __future__ import annotations

import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.device.keys import ECKey, RSAKey, decoded, encoded, part, refresh, registration, signed, thumbprint
from wsgisession.device import protocol
from wsgisession.device.protocol import InvalidProof

BOTH = ("ES256", "RS256")
EC, RSA = ECKey(), RSAKey()
every_key = pytest.mark.parametrize("key", [EC, RSA], ids=["ES256", "RS256"])


def accepted_registration(token: str | None) -> protocol.JWK:
    return protocol.verify_registration(protocol.read_proof(token, BOTH))


def accepted_refresh(token: str | None, key: ECKey | RSAKey) -> str:
    proof = protocol.read_proof(token, BOTH)
    protocol.verify_refresh(proof, key.jwk, algorithm=key.algorithm)
    return proof.challenge


# Headers.


def test_the_registration_header_offers_the_algorithms_in_order_of_preference():
    header = protocol.registration_header(BOTH, path="/.session-device", challenge="c1")
    assert header == '(ES256 RS256);path="/.session-device";challenge="c1"'


def test_the_challenge_header_names_the_session():
    assert protocol.challenge_header("c2", session_identifier="abc") == '"c2";id="abc"'


def test_quotes_and_backslashes_in_a_path_are_escaped():
    header = protocol.registration_header(["ES256"], path='/a"\\b', challenge="c")
    assert header == '(ES256);path="/a\\"\\\\b";challenge="c"'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"abc"', "abc"),
        ("abc", "abc"),
        ("abc.DEF.g-_", "abc.DEF.g-_"),
        ('"abc";x=1', "abc"),
        ('"abc" ;x', "abc"),
        ("abc;x=1", "abc"),
        (' "abc"\t', "abc"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ('""', ""),
        (None, None),
        ("", None),
        ('"abc', None),
        ('abc"', None),
        ('"a"b"', None),
        ('"a\\b"', None),
        ('"abc", "def"', None),
        ("abc, def", None),
        ("a b", None),
        (":YWJj:", None),
        ('"\x00"', None),
        ('"é"', None),
        ("a" * 8193, None),
    ],
)
def test_a_string_is_read_quoted_as_in_the_draft_and_bare_as_chromium_sends_it(value, text):
    assert protocol.read_string(value) == text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_every_string_survives_being_written_and_read(text):
    header = protocol.challenge_header(text, session_identifier=text)
    quoted = header[: header.rindex(";id=")] if ";id=" not in text else None
    if quoted is not None:
        assert protocol.read_string(quoted) == text


@given(st.text(max_size=300))
def test_no_header_value_raises(value):
    protocol.read_string(value)
    protocol.read_skipped(value)


@pytest.mark.parametrize(
    ("value", "skipped"),
    [
        ('quota_exceeded;session_identifier="abc"', {"abc": "quota_exceeded"}),
        ("server_error;session_identifier=abc", {"abc": "server_error"}),
        (
            'unreachable;session_identifier="1", quota_exceeded;session_identifier="2"',
            {"1": "unreachable", "2": "quota_exceeded"},
        ),
        ('unreachable; session_identifier="abc";x=1', {"abc": "unreachable"}),
        ("unreachable", {}),
        ('session_identifier="abc"', {}),
        ("", {}),
        (None, {}),
        ("x;session_identifier=" + "a" * 9000, {}),
    ],
)
def test_the_skipped_sessions_are_read_with_their_reasons(value, skipped):
    assert protocol.read_skipped(value) == skipped


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "hostile", ["a" * 8192, ";" * 8192, "a;" * 4096, "a," * 4096, '"' + "\\\\" * 4000, "a; " * 2700]
)
def test_no_header_takes_long_to_read(hostile):
    for _ in range(20):
        protocol.read_string(hostile)
        protocol.read_skipped(hostile)


# Session instructions.


def test_the_instructions_have_every_member_that_the_draft_requires():
    text = protocol.instructions(
        "abc", refresh_url="/d/refresh", cookie="sid_device", attributes="Path=/; Secure; HttpOnly; SameSite=Lax"
    )
    assert json.loads(text) == {
        "session_identifier": "abc",
        "refresh_url": "/d/refresh",
        "scope": {"include_site": False},
        "credentials": [
            {"type": "cookie", "name": "sid_device", "attributes": "Path=/; Secure; HttpOnly; SameSite=Lax"}
        ],
    }


def test_the_instructions_have_the_scope_and_the_initiators_that_were_asked_for():
    text = protocol.instructions(
        "abc",
        refresh_url="/d/refresh",
        cookie="c",
        attributes="",
        include_site=True,
        origin="https://example.com",
        exclude=["/static"],
        initiators=["*.example.com"],
    )
    asked = json.loads(text)
    assert asked["scope"] == {
        "origin": "https://example.com",
        "include_site": True,
        "scope_specification": [{"type": "exclude", "domain": "*", "path": "/static"}],
    }
    assert asked["allowed_refresh_initiators"] == ["*.example.com"]


def test_the_end_of_a_session_names_it():
    assert json.loads(protocol.end_instructions("abc")) == {"session_identifier": "abc", "continue": False}


# Proofs.


@every_key
def test_a_registration_yields_the_public_key(key):
    proof = protocol.read_proof(registration(key, "c1"), BOTH)
    assert (proof.algorithm, proof.challenge, proof.audience) == (key.algorithm, "c1", None)
    assert protocol.verify_registration(proof) == key.jwk


@every_key
def test_a_refresh_is_verified_with_the_key_of_the_record(key):
    assert accepted_refresh(refresh(key, "c2"), key) == "c2"


def test_members_that_the_draft_may_add_are_ignored():
    token = registration(EC, "c1", header={"kid": "x"}, payload={"aud": "https://a/", "iat": 1, "authorization": "a"})
    assert protocol.read_proof(token, BOTH).audience == "https://a/"
    assert accepted_registration(token) == EC.jwk


def test_only_the_members_that_make_the_key_are_kept():
    token = registration(EC, "c1", header={"jwk": {**EC.jwk, "kid": "x", "d": "secret", "alg": "ES256"}})
    assert accepted_registration(token) == EC.jwk


@every_key
def test_the_thumbprint_is_that_of_rfc_7638(key):
    assert protocol.thumbprint(key.jwk) == thumbprint(key.jwk)


def test_the_thumbprint_of_the_example_in_rfc_7638_is_right():
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn"
        "jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qM"
        "QvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJz"
        "KnqDKgw"
    )
    assert protocol.thumbprint({"kty": "RSA", "n": n, "e": "AQAB"}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


REFUSED_HEADERS = {
    "alg none": {"alg": "none"},
    "alg None": {"alg": None},
    "alg of the shared-secret kind": {"alg": "HS256"},
    "alg of the other kind of key": {"alg": "RS256"},
    "alg in lower case": {"alg": "es256"},
    "alg as a list": {"alg": ["ES256"]},
    "another typ": {"typ": "JWT"},
    "typ in capitals": {"typ": "DBSC+JWT"},
    "no typ": {"typ": None},
    "a critical extension": {"crit": ["b64"], "b64": False},
    "a jwk that is a text": {"jwk": "x"},
    "a jwk that is a list": {"jwk": [EC.jwk]},
    "a jwk without y": {"jwk": {name: value for name, value in EC.jwk.items() if name != "y"}},
    "a jwk of another kind": {"jwk": RSA.jwk},
    "a jwk of the shared-secret kind": {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
    "a jwk with a number": {"jwk": {**EC.jwk, "x": 5}},
    "a jwk of another curve's name": {"jwk": {**EC.jwk, "crv": "secp256k1"}},
    "a point that is not on the curve": {"jwk": {**EC.jwk, "y": EC.jwk["x"]}},
    "the point zero": {"jwk": {**EC.jwk, "x": encoded(bytes(32)), "y": encoded(bytes(32))}},
    "a short coordinate": {"jwk": {**EC.jwk, "x": encoded(decoded(EC.jwk["x"])[:31])}},
    "a padded coordinate": {"jwk": {**EC.jwk, "x": EC.jwk["x"] + "="}},
    "a coordinate in base64": {"jwk": {**EC.jwk, "x": "+/" + EC.jwk["x"][2:]}},
    "a coordinate with a newline": {"jwk": {**EC.jwk, "x": EC.jwk["x"] + "\n"}},
}


@pytest.mark.parametrize("header", REFUSED_HEADERS.values(), ids=REFUSED_HEADERS)
def test_a_registration_is_refused_for_its_header(header):
    with pytest.raises(InvalidProof):
        accepted_registration(registration(EC, "c1", header=header))


def test_a_registration_without_a_key_is_refused():
    with pytest.raises(InvalidProof, match="no jwk"):
        accepted_registration(refresh(EC, "c1"))


def test_a_registration_that_another_key_signed_is_refused():
    with pytest.raises(InvalidProof, match="signature"):
        accepted_registration(registration(EC, "c1", header={"jwk": ECKey().jwk}))


@pytest.mark.parametrize("key", [ECKey(ec.SECP384R1()), RSAKey(1024)], ids=["P-384", "RSA 1024"])
def test_other_kinds_and_sizes_of_keys_are_refused(key):
    with pytest.raises(InvalidProof):
        accepted_registration(registration(key, "c1"))


@pytest.mark.parametrize(
    "change",
    [
        {"e": "AQ"},
        {"e": "Aw"},
        {"e": ""},
        {"n": "AQAB"},
        {"n": ""},
        {"n": encoded(b"\xff" * 513)},
        {"n": encoded(b"\xfe" * 256)},
    ],
    ids=["e 1", "e 3", "no e", "n small", "no n", "n of 4104 bits", "n even"],
)
def test_a_broken_rsa_key_is_refused(change):
    with pytest.raises(InvalidProof):
        accepted_registration(registration(RSA, "c1", header={"jwk": {**RSA.jwk, **change}}))


def test_an_algorithm_that_is_not_offered_is_refused():
    with pytest.raises(InvalidProof, match="alg"):
        protocol.read_proof(registration(RSA, "c1"), ("ES256",))


def test_a_registration_cannot_be_used_as_a_refresh():
    with pytest.raises(InvalidProof, match="carries a jwk"):
        accepted_refresh(registration(EC, "c1"), EC)


@pytest.mark.parametrize("other", [ECKey(), RSA], ids=["another key", "another kind"])
def test_a_refresh_with_another_key_is_refused(other):
    with pytest.raises(InvalidProof):
        accepted_refresh(refresh(other, "c1"), EC)


def test_an_elliptic_key_cannot_be_taken_for_an_rsa_key():
    with pytest.raises(InvalidProof, match="another alg"):
        accepted_refresh(refresh(EC, "c1", header={"alg": "RS256"}), EC)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(size):
    token = refresh(EC, "c1")
    with pytest.raises(InvalidProof):
        accepted_refresh(f"{token.rpartition('.')[0]}.{encoded(bytes(size))}", EC)


def test_a_signature_in_der_is_refused():
    text = refresh(EC, "c1").rpartition(".")[0]
    with pytest.raises(InvalidProof):
        accepted_refresh(f"{text}.{encoded(EC.sign_as_der(text.encode()))}", EC)


@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64], ids=["zero", "too large"])
def test_a_signature_out_of_range_is_refused(signature):
    with pytest.raises(InvalidProof):
        accepted_refresh(signed(EC, {"alg": "ES256", "typ": "dbsc+jwt"}, {"jti": "c"}, signature=signature), EC)


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ('{"alg":"ES256","typ":"dbsc+jwt"}', '{"jti":"a","jti":"b"}'),
        ('{"alg":"none","alg":"ES256","typ":"dbsc+jwt"}', '{"jti":"a"}'),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', '["jti"]'),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', '"jti"'),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', "{}"),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', '{"jti":5}'),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', '{"jti":"a","aud":["b"]}'),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', '{"jti":"a"'),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', "[" * 5000),
        ('{"alg":"ES256","typ":"dbsc+jwt"}', '{"jti":' + "1" * 5000 + "}"),
        ("", '{"jti":"a"}'),
    ],
)
def test_a_proof_with_a_broken_part_is_refused(header, payload):
    with pytest.raises(InvalidProof):
        accepted_refresh(signed(EC, header, payload), EC)


def test_text_that_is_not_utf_8_is_refused():
    text = f"{part({'alg': 'ES256', 'typ': 'dbsc+jwt'})}.{encoded('{}'.encode('utf-16'))}"
    with pytest.raises(InvalidProof):
        accepted_refresh(f"{text}.{encoded(EC.sign(text.encode()))}", EC)


@pytest.mark.parametrize(
    "token",
    [None, "", ".", "..", "...", "a.b", "a.b.c.d", "=.=.=", "a" * 9000, "é.é.é", "a" * 1_000_000],
    ids=lambda token: str(token)[:10],
)
def test_what_is_not_a_token_is_refused(token):
    with pytest.raises(InvalidProof):
        accepted_refresh(token, EC)


@pytest.mark.parametrize("padding", ["=", "==", "\n", " "])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_token_with_padding_or_space_is_refused(place, padding):
    parts = refresh(EC, "c1").split(".")
    parts[place] += padding
    with pytest.raises(InvalidProof):
        accepted_refresh(".".join(parts), EC)


def test_a_signature_has_only_one_spelling():
    token = refresh(EC, "c1")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) ^ 1]  # a bit that base64 does not use
    with pytest.raises(InvalidProof):
        accepted_refresh(token[:-1] + other, EC)


TOKEN = refresh(EC, "c1")


@given(st.integers(0, len(TOKEN) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_changed_character_is_accepted(place, character):
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    if changed != TOKEN:
        with pytest.raises(InvalidProof):
            accepted_refresh(changed, EC)


@given(st.text(max_size=200))
def test_no_text_is_accepted(text):
    with pytest.raises(InvalidProof):
        accepted_refresh(text, EC)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["alg", "typ", "jwk", "kty", "crv", "x", "y", "n", "e", "jti", "aud", "crit"])


@given(header=st.dictionaries(NAMES, JSON, max_size=4), payload=st.dictionaries(NAMES, JSON, max_size=3))
def test_no_members_cause_another_error(header, payload):
    token = signed(EC, {"alg": "ES256", "typ": "dbsc+jwt", **header}, {"jti": "c", **payload})
    with pytest.raises(InvalidProof):
        accepted_registration(token)


@given(jwk=st.dictionaries(NAMES, JSON | st.sampled_from(["EC", "RSA", "P-256", EC.jwk["x"], RSA.jwk["n"]])))
@pytest.mark.parametrize("key", [EC, RSA], ids=["ES256", "RS256"])
def test_no_key_of_another_party_is_accepted(key, jwk):
    with contextlib.suppress(InvalidProof):
        assert accepted_registration(registration(key, "c", header={"jwk": {**key.jwk, **jwk}})) == key.jwk
