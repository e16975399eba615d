import pytest
from hypothesis import given
from hypothesis import strategies as st

from headlift.errors import InvalidInputError
from headlift.gateway.paging import PageTokens


@given(parent=st.text(max_size=40), after=st.text(alphabet="abcdef0123456789-", max_size=60))
def test_a_token_says_what_it_was_made_for(parent, after):
    tokens = PageTokens(b"secret")
    assert tokens.read(parent, tokens.make(parent, after)) == after
    for other in (PageTokens(b"other"), tokens):
        with pytest.raises(InvalidInputError):
            other.read(parent + "x" if other is tokens else parent, tokens.make(parent, after))


@given(token=st.text(min_size=1, max_size=60))
def test_no_other_text_is_a_token(token):
    with pytest.raises(InvalidInputError):
        PageTokens(b"secret").read("tenants/a", token)


def test_the_empty_token_is_the_first_page():
    assert PageTokens(b"secret").read("tenants/a", "") == ""
