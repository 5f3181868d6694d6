"""Challenges and second cookies: good for what they were made for, and for nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgisession.device.tokens import DeviceSigner

OLD, NEW, OTHER = (letter * 32 for letter in (b"o", b"n", b"x"))
BITS = bytes(range(16))
SIGNER = DeviceSigner([NEW])
DEVICE, NONCE = SIGNER.new_id(BITS), SIGNER.new_id(bytes(range(16, 32)))


def challenge(signer: DeviceSigner = SIGNER, **changes: object) -> str:
    options = {"purpose": "refresh", "detail": "3", "subject": "abc", "nonce": NONCE, "now": 1000.7, **changes}
    purpose, detail = options.pop("purpose"), options.pop("detail")
    return signer.challenge(purpose, detail, **options)  # type: ignore[arg-type]


def test_a_challenge_says_what_it_was_made_for_and_when():
    assert SIGNER.read_challenge(challenge(), "refresh", subject="abc") == ("3", 1000, NONCE)


def test_a_challenge_is_good_for_one_purpose():
    assert SIGNER.read_challenge(challenge(), "register", subject="abc") is None
    assert SIGNER.read_challenge(challenge(purpose="register"), "refresh", subject="abc") is None


def test_a_challenge_cannot_be_renamed_for_the_other_purpose():
    renamed = challenge().replace("c1.b.", "c1.a.")
    assert renamed != challenge()
    assert SIGNER.read_challenge(renamed, "register", subject="abc") is None


def test_a_challenge_is_good_for_one_subject():
    assert SIGNER.read_challenge(challenge(), "refresh", subject="abd") is None


def test_a_challenge_of_an_old_secret_is_accepted_and_of_a_removed_one_is_not():
    old = challenge(DeviceSigner([OLD]))
    assert DeviceSigner([NEW, OLD]).read_challenge(old, "refresh", subject="abc") == ("3", 1000, NONCE)
    assert SIGNER.read_challenge(old, "refresh", subject="abc") is None


def test_challenges_differ_by_their_nonces():
    assert challenge() != challenge(nonce=SIGNER.new_id(bytes(16)))


def test_tokens_need_no_quoting():
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", challenge())
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", SIGNER.cookie(DEVICE, now=1000.0))
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", DEVICE)


def test_a_second_cookie_says_which_device_proved_its_key_and_when():
    assert SIGNER.read_cookie(SIGNER.cookie(DEVICE, now=1000.7)) == (1000, DEVICE)


def test_a_second_cookie_of_an_old_secret_is_accepted_and_of_a_removed_one_is_not():
    old = DeviceSigner([OLD]).cookie(DEVICE, now=1000)
    assert DeviceSigner([NEW, OLD]).read_cookie(old) == (1000, DEVICE)
    assert SIGNER.read_cookie(old) is None


def test_a_challenge_is_not_a_second_cookie_and_the_reverse():
    assert SIGNER.read_cookie(challenge()) is None
    assert SIGNER.read_challenge(SIGNER.cookie(DEVICE, now=1000), "refresh") is None


def test_another_secret_of_the_same_length_signs_nothing_for_us():
    assert SIGNER.read_cookie(DeviceSigner([OTHER]).cookie(DEVICE, now=1000)) is None


COOKIE, CHALLENGE = SIGNER.cookie(DEVICE, now=1000), challenge()


@given(st.integers(0, len(COOKIE) - 1), st.characters())
def test_no_changed_second_cookie_is_accepted(place, character):
    changed = COOKIE[:place] + character + COOKIE[place + 1 :]
    assert changed == COOKIE or SIGNER.read_cookie(changed) is None


@given(st.integers(0, len(CHALLENGE) - 1), st.characters())
def test_no_changed_challenge_is_accepted(place, character):
    changed = CHALLENGE[:place] + character + CHALLENGE[place + 1 :]
    assert changed == CHALLENGE or SIGNER.read_challenge(changed, "refresh", subject="abc") is None


@given(st.text(max_size=200))
def test_no_text_is_accepted(text):
    assert SIGNER.read_cookie(text) is None
    assert SIGNER.read_challenge(text, "refresh", subject=text) is None


@pytest.mark.parametrize("tail", ["\n", " ", "="])
def test_nothing_may_follow_a_token(tail):
    assert SIGNER.read_cookie(COOKIE + tail) is None
    assert SIGNER.read_challenge(CHALLENGE + tail, "refresh", subject="abc") is None


def test_digits_of_other_scripts_are_not_digits():
    assert SIGNER.read_cookie(COOKIE.replace("1000", "١٠٠٠")) is None
