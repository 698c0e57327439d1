"""The codec of cookies: what it seals comes back, and nothing else is taken."""

import string

from hypothesis import given
from hypothesis import strategies as st

from reconciler.web.sessions import Seal

KEY = b"k" * 32
SEAL = Seal(KEY, "session")
LETTERS = string.ascii_letters + string.digits + "-_."


@given(st.binary(max_size=2000))
def test_what_is_sealed_comes_back(body: bytes) -> None:
    text = SEAL.seal(body)
    assert SEAL.unseal(text) == body
    assert set(text) <= set(LETTERS)


@given(st.binary(max_size=200), st.data())
def test_one_letter_changed_and_it_is_nothing(body: bytes, data: st.DataObject) -> None:
    text = SEAL.seal(body)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from([one for one in LETTERS if one != text[at]]))
    assert SEAL.unseal(text[:at] + letter + text[at + 1 :]) is None


@given(st.binary(max_size=200), st.data())
def test_a_part_of_it_is_nothing(body: bytes, data: st.DataObject) -> None:
    text = SEAL.seal(body)
    first, last = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    if (first, last) != (0, len(text)):
        assert SEAL.unseal(text[first:last]) is None


@given(st.text())
def test_anything_else_is_nothing(text: str) -> None:
    assert SEAL.unseal(text) is None
    assert SEAL.unseal(f"{text}.{SEAL.mark(text)}") is None or text.startswith("v1.")


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=64), st.text(max_size=20))
def test_another_key_and_another_purpose_seal_something_else(body: bytes, key: bytes, purpose: str) -> None:
    if (key, purpose) != (KEY, "session"):
        assert SEAL.unseal(Seal(key, purpose).seal(body)) is None


def test_more_than_a_browser_keeps_is_not_looked_at() -> None:
    assert SEAL.unseal(SEAL.seal(b"x" * 4000)) is None
