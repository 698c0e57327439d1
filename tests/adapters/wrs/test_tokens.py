"""Tokens of the dialect: what goes in comes out, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.wrs import tokens
from reconciler.adapters.wrs.tokens import Place
from reconciler.model.snapshot import Token
from tests import defaults

IDS = st.text(min_size=1)


@given(IDS, st.text(min_size=1))
def test_an_etag_is_kept_byte_for_byte(id: str, etag: str) -> None:
    assert tokens.place(tokens.guarded(id, Token(etag))) == Place(id, Token(etag))


@given(IDS, st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()))
def test_a_digest_tells_what_was_shown_apart(id: str, one: dict[str, str], other: dict[str, str]) -> None:
    assert tokens.place(tokens.seen(id, one)) == Place(id)
    assert (tokens.seen(id, one) == tokens.seen(id, other)) == (one == other)


def test_an_id_can_be_read_in_a_token() -> None:
    assert tokens.guarded("OR:wt.doc.WTDocument:1", Token('W/"5"')) == 'OR:wt.doc.WTDocument:1 W/"5"'


@pytest.mark.parametrize("token", ['"v1"', 'W/"v1.2"', "", "#a", ' "v1"', "%FF#a", "a/b#c", "v1"])
def test_a_token_of_another_dialect_says_nothing(token: str) -> None:
    assert tokens.place(Token(token)) is None


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://u:p@h", "http://u@h/x", "http://h/?a", "http://h/#a"])
def test_an_address_must_be_a_plain_one(url: str) -> None:
    with pytest.raises(ValueError, match="base_url must"):
        defaults.wrs(base_url=url)


def test_the_root_of_a_service_is_below_the_base_and_a_plain_one_is_the_base() -> None:
    assert defaults.wrs(base_url="http://h/odata/", service="/v6/DocMgmt/").root == "http://h/odata/v6/DocMgmt"
    assert defaults.wrs(base_url="http://h/odata/", service="").root == "http://h/odata"


def test_etags_alone_guard_only_where_they_were_seen_to() -> None:
    with pytest.raises(ValueError, match="doctor --probe"):
        defaults.wrs(base_url="http://h", lock="etag")
    assert not defaults.wrs(base_url="http://h", lock="etag", etag_proven=True).checks_out(possible=True)
    assert defaults.wrs(base_url="http://h").checks_out(possible=True)
    assert not defaults.wrs(base_url="http://h").checks_out(possible=False)
    assert defaults.wrs(base_url="http://h", lock="checkout").checks_out(possible=False)
