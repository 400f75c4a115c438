"""The gateway's side of the slot protocol against the vectors that the runtime's side is tested with."""

import json
from pathlib import Path

import pytest

from okiba import wire
from okiba.core.invocation import Invocation

VECTORS = Path(__file__).parents[2] / "vectors/protocol"
SPECIALIZE_STORED = "specialize, with code and a layer to be fetched"
GRANT = "0123456789abcdef" * 4
REQUEST = "8f5a1f0e-3c61-4a51-9d2a-0d3f1c2b4a5e"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:thumbnails:$LATEST"


def vectors(name):
    return {each["name"]: each for each in json.loads((VECTORS / f"{name}.json").read_text())["vectors"]}


REQUESTS, RESPONSES = vectors("requests"), vectors("responses")


@pytest.mark.parametrize("name", RESPONSES)
def test_every_answer_is_read_as_the_vector_says(name):
    vector = RESPONSES[name]
    answer = wire.AnswerReader().feed(vector["raw"].encode("latin-1"))
    assert answer.status == vector["status"]
    assert {key.decode(): value.decode("latin-1") for key, value in answer.headers.items()} == vector["headers"]
    assert answer.body == vector["body"].encode("latin-1")


def body_of(name):
    return REQUESTS[name]["body"].encode("latin-1")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("specialize", lambda: wire.specialize_request(json.loads(body_of("specialize")))),
        (SPECIALIZE_STORED, lambda: wire.specialize_request(json.loads(body_of(SPECIALIZE_STORED)))),
        ("preload", lambda: wire.preload_request(json.loads(body_of("preload")))),
        ("connect", lambda: wire.connect_request(7, GRANT)),
        ("telemetry, waiting for whatever comes", lambda: wire.telemetry_request(GRANT, 4096, 5000)),
        ("telemetry, before the slot has a function", lambda: wire.telemetry_request("", 0, 0)),
        ("shutdown", lambda: wire.shutdown_request(GRANT)),
        ("collecting an outcome", lambda: wire.outcome_request(f"{REQUEST}.1")),
        (
            "an invocation",
            lambda: wire.invocation_request(
                Invocation(REQUEST, "thumbnails", body_of("an invocation"), ARN), 30_000, 1_795_363_170_000
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_request_is_made_as_the_vector_says(name, made):
    assert made() == REQUESTS[name]["raw"].encode("latin-1")
