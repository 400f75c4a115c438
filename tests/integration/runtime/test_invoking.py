"""What a handler sees and what becomes of what it returns, on two versions of Python."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.integration.runtime.gateway import ARN

LIMIT = 6_291_556

HELLO = """
    def handler(event, context):
        return {"hello": event}
"""


@pytest.fixture
def started(slots, code):
    """A slot with this code, greeted."""

    def start(source: str, handler: str = "app.handler", **changes):
        slot = slots()
        assert slot.specialize(code(source), handler, **changes).status == 200
        slot.greeting = slot.greet()
        return slot

    class Kept:
        pass

    Kept.__call__ = staticmethod(start)
    return Kept()


def test_a_handler_gets_the_event_and_its_result_comes_back(started):
    slot = started(HELLO)

    response = slot.invoke({"name": "写真"})

    assert slot.greeting["Okiba-Init"] == "ok"
    assert re.fullmatch("[0-9a-f]{32}", slot.greeting["Okiba-Worker"])
    assert response.status == 200
    assert response.json == {"hello": {"name": "写真"}}
    assert response.get("X-Amz-Function-Error") is None
    assert int(response["Okiba-Memory-Kb"]) > 1000


@pytest.mark.parametrize("event", [None, True, 1, "text", [1, 2], {}])
def test_any_json_value_is_an_event(started, event):
    assert started(HELLO).invoke(event).json == {"hello": event}


def test_the_context_is_lambda_s(started):
    slot = started("""
        def handler(event, context):
            fields = {name: getattr(context, name) for name in (
                "aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb",
                "function_version", "invoked_function_arn", "tenant_id")}
            client = context.client_context
            return {**fields, "left": context.get_remaining_time_in_millis(),
                    "identity": context.identity.cognito_identity_id,
                    "client": client and [client.client.app_title, client.custom, client.env]}
    """)

    response = slot.invoke(
        {}, timeout_ms=4000, Lambda_Runtime_Client_Context='{"client": {"app_title": "x"}, "custom": {"a": 1}}'
    )

    told = response.json
    assert 3000 < told.pop("left") <= 4000
    assert told == {
        "aws_request_id": response["Okiba-Request-Id"],
        "log_group_name": "/aws/lambda/probe",
        "log_stream_name": "2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef",
        "function_name": "probe",
        "memory_limit_in_mb": "256",
        "function_version": "$LATEST",
        "invoked_function_arn": f"{ARN}:$LATEST",
        "tenant_id": None,
        "identity": None,
        "client": ["x", {"a": 1}, None],
    }
    assert slot.invoke({}).json["client"] is None


def test_the_environment_is_the_function_s_and_lambda_s_and_nothing_else(started):
    slot = started("""
        import os, sys, time
        def handler(event, context):
            return {"env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv, "zone": time.tzname[0],
                    "main": sorted(vars(sys.modules["__main__"])), "path": sys.path,
                    "version": "%d.%d" % sys.version_info[:2]}
    """, environment={"AWS_REGION": "eu-north-1", "KEY": "wert"})  # fmt: skip

    told = slot.invoke({}).json

    env, code = told["env"], told["cwd"]
    assert {name: env.pop(name) for name in ("KEY", "AWS_REGION", "_HANDLER", "LAMBDA_TASK_ROOT", "PWD", "TZ")} == {
        "KEY": "wert", "AWS_REGION": "eu-north-1", "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": code, "PWD": code,
        "TZ": ":UTC",
    }  # fmt: skip
    assert env.pop("AWS_EXECUTION_ENV") == f"AWS_Lambda_python{told['version']}"
    assert set(env) == {
        "PATH", "LANG", "SHLVL", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
    }  # fmt: skip
    assert told["path"][0] == code
    assert not [entry for entry in told["path"] if "site-packages" in entry or entry.endswith("/runtime")]
    assert told["zone"] == "UTC"
    assert told["argv"] == [""]


def test_a_slot_stays_warm_between_invocations(started):
    slot = started("""
        count = 0
        def handler(event, context):
            global count
            count += 1
            return count
    """)

    assert [slot.invoke({}).json for _ in range(3)] == [1, 2, 3]


def test_output_logging_and_platform_lines_are_in_the_log_in_order(started):
    slot = started("""
        import logging, os, sys
        def handler(event, context):
            print("printed\\nin two lines")
            logging.getLogger().warning("logged %d", 7)
            sys.stderr.write("error stream\\n")
            os.write(1, b"raw\\n")
            context.log("by context\\n")
            print("no line end", end="")
    """)

    request_id = slot.invoke({})["Okiba-Request-Id"]

    lines = slot.log().split("\n")
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1:3] == ["printed", "in two lines"]
    assert re.fullmatch(rf"\[WARNING\]\t\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{request_id}\tlogged 7", lines[3])
    assert lines[4:9] == ["error stream", "raw", "by context", "no line end", f"END RequestId: {request_id}"]
    assert re.fullmatch(
        rf"REPORT RequestId: {request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms\t",
        lines[9],
    )
    assert lines[10:] == [""]


def test_only_the_first_report_tells_the_init_duration(started):
    slot = started(HELLO)
    slot.invoke({})
    slot.invoke({})

    assert slot.log().count("Init Duration") == 1


def test_an_exception_becomes_lambda_s_error_and_is_logged(started):
    slot = started("""
        def inner():
            raise ValueError("no photo")
        def handler(event, context):
            inner()
    """)

    response = slot.invoke({})

    assert response.status == 200
    assert response["X-Amz-Function-Error"] == "Unhandled"
    assert response["Okiba-Error-Type"] == "ValueError"
    told = response.json
    assert (told["errorMessage"], told["errorType"]) == ("no photo", "ValueError")
    assert told["requestId"] == response["Okiba-Request-Id"]
    assert [re.search("in (.*)\n", frame)[1] for frame in told["stackTrace"]] == ["handler", "inner"]
    assert "[ERROR] ValueError: no photo\nTraceback (most recent call last):\n\u00a0\u00a0File" in slot.log()
    assert slot.invoke({}).json["errorType"] == "ValueError"


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("app", "Runtime.MalformedHandlerName", "Bad handler 'app': not enough values to unpack (expected 2, got 1)"),
        (
            "missing.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'missing': No module named 'missing'",
        ),
        ("app.missing", "Runtime.HandlerNotFound", "Handler 'missing' missing on module 'app'"),
        ("sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    ],
)
def test_a_handler_that_is_not_there_is_an_init_error(started, handler, kind, message):
    slot = started(HELLO, handler)

    assert slot.greeting["Okiba-Init"] == "error"
    assert slot.greeting.json == {"errorMessage": message, "errorType": kind, "requestId": "", "stackTrace": []}
    ending = slot.ending()
    assert (ending["reason"], ending["error"]["errorType"]) == ("init_error", kind)
    assert f"[ERROR] {kind}: {message}" in slot.log()
    assert f"Status: error\tError Type: {kind}" in slot.log()


def test_a_module_that_raises_is_an_init_error_with_its_trace(started):
    slot = started("1 / 0")

    told = slot.greeting.json

    assert told["errorType"] == "ZeroDivisionError"
    assert "app.py" in told["stackTrace"][-1]
    assert not [frame for frame in told["stackTrace"] if "okiba_runtime" in frame]


def test_a_syntax_error_is_told_with_its_line(started):
    told = started("def handler(event, context:\n  pass").greeting.json

    assert told["errorType"] == "Runtime.UserCodeSyntaxError"
    assert told["errorMessage"].startswith("Syntax error in module 'app': ")
    assert 'app.py" Line 1' in told["stackTrace"][0]


def test_a_result_that_is_not_json_is_a_marshal_error(started):
    slot = started("""
        def handler(event, context):
            return eval(event)
    """)

    for result in ("b''", "float('nan')", "{1}", "(x for x in [])", "object()", "handler.__globals__"):
        response = slot.invoke(result)
        assert response["Okiba-Error-Type"] == "Runtime.MarshalError", result
        assert response.json["errorMessage"].startswith("Unable to marshal response: ")
    assert slot.invoke("__import__('decimal').Decimal('1.10')").body == b"1.10"


def test_text_is_escaped_as_the_version_of_the_runtime_does(started):
    slot = started("""
        import sys
        def handler(event, context):
            return ["ü", sys.version_info[1]]
    """)

    body = slot.invoke({}).body

    assert (b"\\u00fc" in body) == (json.loads(body)[1] < 12)


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_a_result_may_have_six_megabytes_and_not_a_byte_more(started, size):
    slot = started("""
        def handler(event, context):
            return "x" * (event - 2)
    """)

    response = slot.invoke(size)

    if size == LIMIT:
        assert len(response.body) == LIMIT
    else:
        assert response["Okiba-Error-Type"] == "Function.ResponseSizeTooLarge"
        assert response.json == {
            "errorType": "Function.ResponseSizeTooLarge",
            "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        }


def test_an_event_of_six_megabytes_arrives_whole(started):
    slot = started("""
        def handler(event, context):
            return [len(event), event[-3:]]
    """)

    assert slot.invoke("a" * (6 * 1024 * 1024 - 5) + "xyz").json == [6 * 1024 * 1024 - 2, "xyz"]


def test_an_event_that_is_not_json_is_an_error_of_the_invocation(started):
    slot = started(HELLO)

    assert slot.invoke(b"{").json["errorType"] == "Runtime.UnmarshalError"
    assert slot.invoke(b'"\xff"').json["errorType"] == "Runtime.UnmarshalError"
    assert slot.invoke({}).json == {"hello": {}}


def test_a_function_s_own_module_hides_the_library_s(started, code):
    code("def handler(event, context): return 'mine'", "calendar")
    slot = started("import calendar\nhandler = calendar.handler", "calendar.handler")

    assert slot.invoke({}).json == "mine"


def test_a_trace_id_is_in_the_environment_of_its_invocation_only(started):
    slot = started("""
        import os
        def handler(event, context):
            return os.environ.get("_X_AMZN_TRACE_ID")
    """)

    assert slot.invoke({}, Lambda_Runtime_Trace_Id="Root=1-2-3").json == "Root=1-2-3"
    assert slot.invoke({}).json is None


def test_variables_that_are_read_at_exec_are_obeyed(started):
    slot = started("""
        import os, sys
        def handler(event, context):
            return [sys.flags.hash_randomization, hash("a"), os.environ["PYTHONHASHSEED"], sys.path[0], os.getcwd(),
                    sys.argv, sys.flags.utf8_mode]
    """, environment={"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"})  # fmt: skip

    randomised, _, seed, first, cwd, argv, utf8 = slot.invoke({}).json
    assert (randomised, seed, argv, utf8) == (0, "0", [""], 1)
    assert first == cwd
    assert "okiba_runtime" not in first


def test_a_handler_that_breaks_its_standard_streams_breaks_only_them(started):
    slot = started("""
        import io, os, sys
        def handler(event, context):
            print("before")
            sys.stdout = io.StringIO()
            print("into nothing")
            sys.stderr.close()
            os.chdir("/")
            raise ValueError("still told")
    """)

    slot.invoke({})

    assert "before\n[ERROR] ValueError: still told\n" in slot.log()
    assert slot.invoke({}).json["errorMessage"] == "still told"


def test_threads_left_behind_do_not_hold_up_the_answer(started):
    slot = started("""
        import threading, time
        def handler(event, context):
            threading.Thread(target=time.sleep, args=(3600,)).start()
            return threading.active_count()
    """)

    assert [slot.invoke({}).json for _ in range(2)] == [2, 3]


def test_a_forked_child_that_returns_from_the_handler_answers_nothing(started):
    slot = started("""
        import os
        def handler(event, context):
            child = os.fork()
            if child == 0:
                print("child")
                return "child"
            os.waitpid(child, 0)
            return "parent"
    """)

    assert [slot.invoke({}).json for _ in range(3)] == ["parent"] * 3
    assert slot.log().count("child\n") == 3


def test_subprocesses_and_pools_of_processes_work(started):
    slot = started("""
        import multiprocessing, subprocess
        def square(n):
            return n * n
        def handler(event, context):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                squares = pool.map(square, range(4))
            return [squares, subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout]
    """)

    assert slot.invoke({}).json == [[0, 1, 4, 9], "hi\n"]


def test_a_handler_runs_on_the_python_that_the_slot_was_started_with(interpreter, started):
    said = subprocess.run([interpreter, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    slot = started("import platform\ndef handler(event, context): return platform.python_version()")

    assert slot.invoke({}).json == said
