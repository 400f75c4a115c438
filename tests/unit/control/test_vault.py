import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.adapters.vault import Vault
from okiba.core.errors import InvalidParameter, PlatformError

VAULT = Vault("ab" * 32)


@given(st.text(), st.text(max_size=20))
def test_what_is_sealed_opens_for_its_purpose(text, purpose):
    assert VAULT.open(VAULT.seal(text, purpose), purpose) == text


def test_the_same_text_is_sealed_differently_every_time():
    assert VAULT.seal("secret", "p") != VAULT.seal("secret", "p")


def test_a_sealed_text_does_not_show_what_is_in_it():
    assert "secret" not in VAULT.seal("secret", "p")


@pytest.mark.parametrize(
    ("sealed", "purpose"),
    [
        pytest.param(VAULT.seal("x", "secret:A"), "secret:B", id="sealed for another purpose"),
        pytest.param(Vault("cd" * 32).seal("x", "p"), "p", id="sealed with another key"),
        pytest.param(VAULT.seal("x", "p")[:-4] + "AAA=", "p", id="damaged"),
        pytest.param("v1:", "p", id="empty"),
        pytest.param("v1:!!", "p", id="not base64"),
        pytest.param("plain", "p", id="never sealed"),
    ],
)
def test_what_was_not_sealed_so_does_not_open(sealed, purpose):
    with pytest.raises(PlatformError, match="does not open"):
        VAULT.open(sealed, purpose)


@pytest.mark.parametrize("key", ["", "ab", "zz" * 32, "ab" * 33])
def test_a_platform_key_that_is_none_is_refused_without_showing_it(key):
    with pytest.raises(InvalidParameter) as refused:
        Vault(key)
    assert not key or key not in str(refused.value)
