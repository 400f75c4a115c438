"""Invoke, as boto3 users know it: results, errors, limits."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from botocore.exceptions import ClientError

from tests.installation import eventually, tail_of

CODE = """
import os, sys, time, json, logging, ctypes, signal
logging.getLogger().setLevel("INFO")

def handler(event, context):
    do = event.get("do") if isinstance(event, dict) else None
    if do == "raise":
        raise ValueError("no good")
    if do == "sleep":
        time.sleep(event["seconds"])
    if do == "spin":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        "a" * 3 and max(range(10**10))
    if do == "memory":
        hold = []
        while True:
            hold.append(b"x" * 1_000_000)
    if do == "exit":
        sys.exit(3)
    if do == "kill":
        os.kill(os.getpid(), 9)
    if do == "print":
        print("said by the handler"); logging.info("logged by the handler")
    if do == "large":
        return "x" * event["bytes"]
    if do == "set":
        return {1, 2}
    if do == "context":
        return {
            "memory": context.memory_limit_in_mb, "arn": context.invoked_function_arn, "name": context.function_name,
            "version": context.function_version, "id": context.aws_request_id, "group": context.log_group_name,
            "left": context.get_remaining_time_in_millis(),
        }
    return event
"""


@pytest.fixture(scope="module")
def lambdas(okiba):
    okiba.deploy_inline("echo", CODE, Timeout=3, MemorySize=128)
    return okiba.client("lambda")


def call(lambdas, event=None, **more):
    response = lambdas.invoke(FunctionName="echo", Payload=json.dumps(event), **more)
    return json.loads(response["Payload"].read()), response


@pytest.mark.parametrize("event", [None, True, 1, 1.5, "text", [1, {"a": None}], {"ü": "\u2028"}])
def test_any_json_value_goes_in_and_comes_out(lambdas, event):
    assert call(lambdas, event)[0] == event


def test_no_payload_at_all_is_an_empty_object(lambdas):
    assert json.loads(lambdas.invoke(FunctionName="echo")["Payload"].read()) == {}


def test_the_response_names_version_and_request(lambdas):
    _, response = call(lambdas, {})
    assert (response["StatusCode"], response["ExecutedVersion"]) == (200, "$LATEST")
    assert len(response["ResponseMetadata"]["RequestId"]) == 36


def test_the_context_is_lambdas(lambdas):
    result, response = call(lambdas, {"do": "context"})
    assert result["memory"] == "128"
    assert result["arn"] == "arn:aws:lambda:us-east-1:000000000000:function:echo"
    assert (result["name"], result["version"], result["group"]) == ("echo", "$LATEST", "/aws/lambda/echo")
    assert result["id"] == response["ResponseMetadata"]["RequestId"]
    assert 0 < result["left"] <= 3000


def test_the_qualifier_stays_in_the_arn_that_the_handler_sees(lambdas):
    response = lambdas.invoke(FunctionName="echo", Qualifier="$LATEST", Payload=b'{"do": "context"}')
    assert json.loads(response["Payload"].read())["arn"].endswith(":function:echo:$LATEST")


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        ({"do": "raise"}, "ValueError", "no good"),
        ({"do": "sleep", "seconds": 60}, "Sandbox.Timedout", "Task timed out after 3.00 seconds"),
        ({"do": "spin"}, "Sandbox.Timedout", "Task timed out after 3.00 seconds"),
        ({"do": "memory"}, "Runtime.OutOfMemory", "signal: killed"),
        ({"do": "exit"}, "Runtime.ExitError", "Runtime exited"),
        ({"do": "kill"}, "Runtime.ExitError", "Runtime exited"),
        ({"do": "set"}, "Runtime.MarshalError", "not JSON serializable"),
        ({"do": "large", "bytes": 6_291_556}, "Function.ResponseSizeTooLarge", "6291556"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_goes_wrong_in_a_handler_is_told_as_lambda_tells_it(lambdas, event, kind, message):
    result, response = call(lambdas, event)
    assert (response["StatusCode"], response["FunctionError"]) == (200, "Unhandled")
    assert result["errorType"] == kind
    assert message in result["errorMessage"]
    assert call(lambdas, {"still": "there"})[0] == {"still": "there"}


def test_the_largest_result_passes(lambdas):
    assert len(call(lambdas, {"do": "large", "bytes": 6_291_556 - 2})[0]) == 6_291_554


def test_the_log_tail_has_the_platforms_lines_and_the_handlers(lambdas):
    _, response = call(lambdas, {"do": "print"}, LogType="Tail")
    tail = tail_of(response)
    assert tail.startswith("START RequestId: ")
    assert "said by the handler\n" in tail
    assert "[INFO]\t" in tail
    assert "REPORT RequestId: " in tail
    assert "Max Memory Used: " in tail


def test_a_dry_run_runs_nothing(lambdas):
    assert lambdas.invoke(FunctionName="echo", InvocationType="DryRun")["StatusCode"] == 204


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        ({"FunctionName": "nobody"}, "ResourceNotFoundException", 404),
        ({"FunctionName": "echo", "Qualifier": "7"}, "ResourceNotFoundException", 404),
        ({"FunctionName": "echo", "Payload": b"{not json"}, "InvalidRequestContentException", 400),
        ({"FunctionName": "echo", "Payload": b"[NaN]"}, "InvalidRequestContentException", 400),
        ({"FunctionName": "echo", "Payload": b"[" * 100_000}, "InvalidRequestContentException", 400),
        ({"FunctionName": "echo", "Payload": b"[" + b" " * 300_000}, "InvalidRequestContentException", 400),
        ({"FunctionName": "echo", "Payload": b'"' + b"x" * 6_291_456 + b'"'}, "RequestTooLargeException", 413),
        (
            {"FunctionName": "echo", "InvocationType": "Event", "Payload": b'"' + b"x" * 1_048_576 + b'"'},
            "RequestTooLargeException",
            413,
        ),
    ],
    ids=["nobody", "a version", "no json", "NaN", "too deep", "large and no json", "too large", "too large an event"],
)
def test_a_wrong_request_is_refused_as_lambda_refuses_it(lambdas, arguments, code, status):
    with pytest.raises(ClientError) as refused:
        lambdas.invoke(**arguments)
    error = refused.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


def test_a_wrong_secret_and_an_unknown_key_are_refused(okiba, lambdas):
    import boto3

    for key, secret in ((okiba.variables["AWS_ACCESS_KEY_ID"], "wrong"), ("OKIANOBODY", "wrong")):
        stranger = boto3.client(
            "lambda",
            endpoint_url=f"http://{okiba.gateway}",
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
        with closing(stranger), pytest.raises(ClientError) as refused:
            stranger.invoke(FunctionName="echo")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_above_the_functions_concurrency_calls_are_refused_at_once(okiba, lambdas):
    code = "import time\n\ndef handler(event, context):\n    time.sleep(2)\n"
    okiba.deploy_inline("narrow", code, concurrency=1, Timeout=20)
    first = threading.Thread(target=lambda: okiba.client("lambda").invoke(FunctionName="narrow"))
    first.start()
    eventually(lambda: okiba.metric("okiba_slots", function="narrow", state="busy") == 1, 10)
    with pytest.raises(ClientError) as refused:
        lambdas.invoke(FunctionName="narrow")
    first.join()
    response = refused.value.response
    assert response["Error"]["Code"] == "TooManyRequestsException"
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"


@pytest.mark.parametrize(
    ("code", "handler", "kind"),
    [
        ("def handler(e, c): pass", "missing.handler", "Runtime.ImportModuleError"),
        ("def handler(e, c): pass", "app.nothing", "Runtime.HandlerNotFound"),
        ("raise RuntimeError('at import')", "app.handler", "RuntimeError"),
        ("def broken(:", "app.handler", "Runtime.UserCodeSyntaxError"),
    ],
)
def test_a_handler_that_cannot_be_loaded_says_why(okiba, lambdas, code, handler, kind):
    name = "unloadable-" + kind.rpartition(".")[2].lower()
    okiba.deploy_inline(name, code)
    lambdas.update_function_configuration(FunctionName=name, Handler=handler)
    eventually(lambda: lambdas.get_function(FunctionName=name)["Configuration"]["LastUpdateStatus"] == "Successful", 30)
    eventually(lambda: okiba.invoke(name)[0]["errorType"] == kind, 10)
    assert okiba.invoke(name)[1]["FunctionError"] == "Unhandled"


def test_an_asynchronous_call_is_tried_three_times_and_then_kept_as_a_dead_letter(okiba, lambdas):
    response = lambdas.invoke(FunctionName="echo", InvocationType="Event", Payload=b'{"do": "raise", "n": 7}')
    assert (response["StatusCode"], response["Payload"].read()) == (202, b"")

    def letter():
        letters = json.loads(okiba.okiba("dlq", "list", "echo", "--json").stdout)
        found = [each for each in letters if each["request_id"] == response["ResponseMetadata"]["RequestId"]]
        return found and found[0]

    dead = eventually(letter, 30)
    assert (dead["reason"], dead["attempts"]) == ("RetriesExhausted", 3)
    shown = okiba.okiba("dlq", "show", "echo", dead["id"]).stdout
    assert '"n": 7' in shown.replace('\\"', '"')
    assert "ValueError" in shown


def test_a_call_that_ends_at_its_deadline_does_no_harm_to_the_next_one(okiba):
    okiba.deploy_inline("edge", CODE, Timeout=1)
    client = okiba.client("lambda")

    def one_after_the_other(number):
        late = {"do": "sleep", "seconds": 0.9992 + number % 8 * 0.0002}
        for event in (late, {}):
            response = client.invoke(FunctionName="edge", Payload=json.dumps(event))
            if event is not late:
                return response.get("FunctionError"), json.loads(response["Payload"].read())
        return None

    with ThreadPoolExecutor(4) as callers:
        assert set(map(repr, callers.map(one_after_the_other, range(40)))) == {repr((None, {}))}


def test_a_call_right_behind_a_slot_s_first_has_its_own_deadline(okiba, lambdas):
    code = (
        "import json, time\n"
        "def handler(event, context):\n"
        "    print('ran', event['s'], flush=True)\n"
        "    time.sleep(event['s'])\n"
    )
    okiba.deploy_inline("behind", code, Timeout=3)
    lambdas.put_function_concurrency(FunctionName="behind", ReservedConcurrentExecutions=1)
    for seconds in (1.0, 2.5):
        lambdas.invoke(FunctionName="behind", InvocationType="Event", Payload=json.dumps({"s": seconds}))

    def said():
        return okiba.okiba("logs", "behind").stdout

    eventually(lambda: said().count("REPORT RequestId") >= 2, 30)
    assert [said().count(word) for word in ("ran 1.0", "ran 2.5", "timed out", "START RequestId")] == [1, 1, 0, 2]


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_an_init_phase_that_takes_too_long_is_the_functions_error(okiba, kind):
    name = f"slow-init-{kind.lower()}"
    okiba.deploy_inline(name, "import time\ntime.sleep(30)\ndef handler(event, context): ...\n")
    client = okiba.client("lambda")
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    response = client.invoke(FunctionName=name, InvocationType=kind, Payload=b"{}")
    if kind == "RequestResponse":
        assert response["FunctionError"] == "Unhandled"
        error = json.loads(response["Payload"].read())
    else:
        (letter,) = eventually(lambda: json.loads(okiba.okiba("dlq", "list", name, "--json").stdout), 40)
        assert (letter["reason"], letter["attempts"]) == ("RetriesExhausted", 1)
        error = json.loads(letter["error"]) if isinstance(letter["error"], str) else letter["error"]
    assert error["errorType"] == "Sandbox.Timedout"
