import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.adapters.function_codec import decode, encode
from okiba.adapters.vault import Vault
from okiba.core.binding import Binding
from okiba.core.errors import PlatformError
from okiba.core.function import Function, Layer, State, Statement, UpdateStatus

VAULT = Vault("ab" * 32)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=3)

FUNCTIONS = st.builds(
    Function,
    name=TEXTS,
    runtime=TEXTS,
    handler=TEXTS,
    code_sha256=TEXTS,
    code_bytes=st.integers(0),
    revision=TEXTS,
    last_modified_ms=st.integers(0),
    access_key=TEXTS,
    role=TEXTS,
    description=TEXTS,
    memory_mb=st.integers(0),
    timeout_s=st.integers(0),
    environment=MAPS,
    layer=st.none() | st.builds(Layer, TEXTS, TEXTS, st.booleans()),
    preload=LISTS,
    reserved_concurrency=st.none() | st.integers(0),
    retries=st.integers(0, 2),
    max_event_age_s=st.integers(60),
    bindings=st.lists(st.builds(Binding, TEXTS, TEXTS, LISTS, TEXTS, TEXTS), max_size=2).map(tuple),
    statements=st.lists(st.builds(Statement, LISTS, LISTS), max_size=2).map(tuple),
    state=st.sampled_from(State),
    state_reason=TEXTS,
    state_reason_code=TEXTS,
    managed_by=TEXTS,
    origin=TEXTS,
    tags=MAPS,
    warnings=LISTS,
    last_update=st.sampled_from(UpdateStatus),
    last_update_reason=TEXTS,
    invoke_config_ms=st.none() | st.integers(0),
    generation=st.integers(0),
)
PLAIN = Function("f", "python3.11", "app.handler", "00", 1, "r", 1, "OKIA", environment={"PASSWORD": "canary"})


@given(FUNCTIONS)
def test_a_function_survives_being_stored(function):
    assert decode(encode(function, VAULT).encode(), VAULT) == function


def test_the_environment_cannot_be_read_in_the_store():
    assert "canary" not in encode(PLAIN, VAULT)
    assert "PASSWORD" not in encode(PLAIN, VAULT)


def test_the_environment_of_one_function_does_not_open_in_anothers_record():
    record = json.loads(encode(PLAIN, VAULT)) | {"name": "thief"}
    with pytest.raises(PlatformError, match="does not open"):
        decode(json.dumps(record).encode(), VAULT)


def test_a_record_of_a_later_release_is_read_without_what_is_not_known():
    record = json.loads(encode(PLAIN, VAULT)) | {"a_later_field": [1, 2]}
    assert decode(json.dumps(record).encode(), VAULT) == PLAIN


def test_what_a_later_release_says_of_bindings_layers_and_statements_is_passed_over_too():
    function = replace(
        PLAIN,
        layer=Layer("00", "six"),
        bindings=(Binding("Upload", "photos", ("s3:ObjectCreated:*",)),),
        statements=(Statement(("s3:GetObject",), ("*",)),),
    )
    record = json.loads(encode(replace(function, running=function), VAULT))
    for revision in (record, record["running"]):
        for nested in (revision["layer"], *revision["bindings"], *revision["statements"]):
            nested["a_later_field"] = 1
    assert decode(json.dumps(record).encode(), VAULT) == replace(function, running=function)


def test_a_record_of_an_earlier_release_gets_the_defaults():
    record = json.loads(encode(PLAIN, VAULT))
    for name in ("last_update", "last_update_reason", "invoke_config_ms", "generation", "warnings"):
        del record[name]
    assert decode(json.dumps(record).encode(), VAULT) == PLAIN


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"name": "f"}', b"\xff"])
def test_a_damaged_record_is_a_fault_of_the_platform(text):
    with pytest.raises(PlatformError):
        decode(text, VAULT)
