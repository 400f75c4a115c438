"""Requests that are wrong before they mean anything, and operations that are not there."""

import os
import re
import socket
import threading
import time

import botocore.session
import pytest
import urllib3

from okiba.apps.gateway.lambda_operations import missing
from okiba.core.errors import UnsupportedOperation
from tests.integration.control.lambda_calls import create, refused, until
from tests.unit.control.archives import lawful

# --- what is not there ------------------------------------------------------------------------------------------------


def test_an_operation_that_okiba_does_not_have_is_named(client, name):
    with refused("Okiba.Unsupported", 501, "PublishVersion"):
        client.publish_version(FunctionName=name)
    with refused("Okiba.Unsupported", 501, "CreateEventSourceMapping"):
        client.create_event_source_mapping(FunctionName=name, EventSourceArn="arn:aws:sqs:us-east-1:0:q")


SERVED = {
    "CreateFunction", "UpdateFunctionCode", "UpdateFunctionConfiguration", "GetFunction", "GetFunctionConfiguration",
    "ListFunctions", "DeleteFunction", "Invoke", "PutFunctionConcurrency", "GetFunctionConcurrency",
    "DeleteFunctionConcurrency", "PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig",
    "GetFunctionEventInvokeConfig", "DeleteFunctionEventInvokeConfig",
}  # fmt: skip


def test_every_operation_in_botocores_model_is_served_or_named():
    model = botocore.session.get_session().get_service_model("lambda")
    for operation in sorted(set(model.operation_names) - SERVED):
        http = model.operation_model(operation).http
        path = re.sub(r"\{\w+\}", "x", http["requestUri"].partition("?")[0])
        assert isinstance(missing(http["method"], path), UnsupportedOperation), operation


@pytest.mark.parametrize(
    "path", ["/", "/2015-03-31/functions/f/nothing", "/docs", "/openapi.json", "//evil", "/2015-03-31/functions/%00"]
)
def test_a_path_that_nobody_has_is_not_found_in_aws_shape(control, path):
    status, headers, body = control.ask("POST", path)
    assert (status, headers["x-amzn-errortype"], body["Type"]) == (404, "UnknownOperationException", "User")


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"Timeout": NaN}',
        b"\xff\xfe",
        rb'{"Description": "\ud800"}',
        b'{"Timeout": 1e999}',
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("PUT", "/{}/code"), ("PUT", "/{}/configuration")])
def test_a_body_that_is_no_json_object_isrefused(control, standing, body, method, path):
    status, headers, told = control.ask(method, "/2015-03-31/functions" + path.format(standing), body)
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")
    assert told["Type"] == "User"


@pytest.mark.parametrize("field", ["Timeout", "MemorySize", "Description", "Handler", "Role", "Runtime", "Environment"])
@pytest.mark.parametrize("value", [[], {"a": {}}, 1.5, True, "\x00x" * 10_000])
def test_a_field_of_the_wrong_type_is_the_callers_mistake(control, standing, field, value):
    status, _, _ = control.ask("PUT", f"/2015-03-31/functions/{standing}/configuration", {field: value})
    assert status == 400


def test_a_configuration_over_1_mib_isrefused(control, standing):
    status, headers, _ = control.ask("PUT", f"/2015-03-31/functions/{standing}/configuration", b" " * 131_073)
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestTooLargeException")


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(control):
    status, headers, body = control.ask(
        "POST", "/2015-03-31/functions", b"{}", **{"Content-Length": "69905068", "Connection": "close"}
    )
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestTooLargeException")
    assert "69905067 bytes for the CreateFunction operation" in body["message"]


def test_a_body_that_turns_out_too_large_is_refused_and_leaves_nothing(control):
    pool = urllib3.PoolManager()
    pieces = (b" " * 1_000_000 for _ in range(75))
    try:
        answer = pool.request(
            "POST", f"{control.url}/2015-03-31/functions", body=pieces, headers={"x-test-principal": "admin"},
            retries=False, timeout=60,
        )  # fmt: skip
        assert answer.status == 413
    except urllib3.exceptions.ProtocolError:
        pass  # refused while it was still being sent
    until(lambda: not list(control.spool.iterdir()))


def test_a_caller_who_hangs_up_leaves_nothing_behind(control):
    host, port = control.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nx-test-principal: admin\r\n"
            b"Content-Length: 1000000\r\n\r\n{"
        )
        until(lambda: list(control.spool.iterdir()))
    until(lambda: not list(control.spool.iterdir()))


def test_a_large_package_comes_in_while_others_are_answered(control, name):
    """20 MB that do not compress; meanwhile small requests are answered by the same process."""
    content = lawful({"app.py": b"x = 1\n", "model.bin": os.urandom(20_000_000)})
    client = control.client()
    slowest, stop = 0.0, threading.Event()

    def ask():
        nonlocal slowest
        while not stop.is_set():
            began = time.monotonic()
            control.ask("GET", "/okiba/v1/status")
            slowest = max(slowest, time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert create(client, name, Code={"ZipFile": content})["CodeSize"] == len(content)
    finally:
        stop.set()
        asking.join()
    assert slowest < 1.0
