"""Who may do what: the administrator all, a function what its statements say, nobody else anything."""

from dataclasses import replace

import pytest
from fastapi.routing import APIRoute

from okiba.apps.gateway.lambda_api import LambdaApi
from okiba.apps.gateway.lambda_limits_api import LambdaLimitsApi
from okiba.apps.gateway.okiba_api import OkibaApi
from okiba.core.function import Statement
from tests.integration.control.lambda_calls import ZIP, create, refused, s3_client

ROUTES = [
    (method, route.path)
    for api in (LambdaApi, LambdaLimitsApi, OkibaApi)
    for route in api(None).router().routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]
LAMBDA_ROUTES = [(method, path) for method, path in ROUTES if not path.startswith("/okiba")]
OKIBA_ROUTES = [(method, path) for method, path in ROUTES if path.startswith("/okiba")]
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


def _ask(control, method, path, principal, name="standing"):
    filled = path.replace("{name}", name).replace("{letter}", "1-1").replace("{bucket}", "some-bucket")
    return control.ask(method, filled, {} if method in ("PUT", "POST") else None, principal)


def _allow(control, name, *statements):
    async def allowed(parts):
        function = await parts.registry.get(name)
        await parts.registry.put(replace(function, statements=statements), replaces=function.revision)

    control.run(allowed)


@pytest.fixture
def caller(control, client, name):
    """A function that calls; it may do nothing yet."""
    create(client, name)
    return name


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_a_caller_whom_nobody_knows(control, standing, method, path):
    status, headers, _ = _ask(control, method, path, "nobody", standing)
    assert (status, headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")


def test_not_even_the_absence_of_a_path_is_told_to_a_caller_whom_nobody_knows(control):
    assert control.ask("GET", "/2015-03-31/event-source-mappings", principal="nobody")[0] == 403


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_a_function_without_statements(control, standing, method, path):
    status, headers, _ = _ask(control, method, path, standing, standing)
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")


@pytest.mark.parametrize(("method", "path"), OKIBA_ROUTES)
def test_okibas_own_routes_answer_no_function_whatever_its_statements(control, caller, method, path):
    _allow(control, caller, Statement(("*",), ("*",)))
    assert _ask(control, method, path, caller, caller)[0] == 403


def test_a_denial_does_not_tell_whether_the_function_exists(control, caller, standing):
    existing = control.ask("GET", f"/2015-03-31/functions/{standing}", principal=caller)
    absent = control.ask("GET", "/2015-03-31/functions/absent", principal=caller)
    assert existing[2]["message"].replace(standing, "absent") == absent[2]["message"]
    assert "no identity-based policy allows the lambda:GetFunction action" in absent[2]["message"]


def test_a_function_may_do_what_a_statement_names_and_nothing_beside_it(control, caller, standing):
    _allow(control, caller, Statement(("lambda:GetFunction",), (ARN + standing,)))
    client = control.client(caller)
    assert client.get_function(FunctionName=standing)["Configuration"]["FunctionName"] == standing
    with refused("AccessDeniedException", 403):
        client.get_function(FunctionName=caller)
    with refused("AccessDeniedException", 403):
        client.get_function_configuration(FunctionName=standing)
    with refused("AccessDeniedException", 403):
        client.list_functions()


def test_a_function_creates_only_what_it_may_be_called(control, caller):
    _allow(control, caller, Statement(("lambda:CreateFunction",), (f"{ARN}{caller}-*",)))
    client = control.client(caller)
    create(client, f"{caller}-child")
    with refused("AccessDeniedException", 403):
        create(client, "x" + caller)
    assert control.function(f"{caller}-child").statements == ()


def test_a_function_deploys_no_code_from_a_bucket_that_it_may_not_read(control, caller):
    """The platform fetches with its own key: it must not be asked to read what the caller could not."""
    s3 = s3_client(control)
    s3.create_bucket(Bucket=f"code-{caller}")
    s3.put_object(Bucket=f"code-{caller}", Key="k", Body=ZIP)
    place = {"S3Bucket": f"code-{caller}", "S3Key": "k"}
    client = control.client(caller)
    _allow(control, caller, Statement(("lambda:UpdateFunctionCode",), ("*",)))
    with refused("AccessDeniedException", 403, "s3:GetObject"):
        client.update_function_code(FunctionName=caller, **place)
    _allow(
        control, caller,
        Statement(("lambda:UpdateFunctionCode",), ("*",)),
        Statement(("s3:GetObject",), (f"arn:aws:s3:::code-{caller}/*",)),
    )  # fmt: skip
    assert client.update_function_code(FunctionName=caller, **place)["CodeSize"] == len(ZIP)


def test_the_key_of_a_deleted_function_is_not_its_successors(control, client, caller):
    old = control.function(caller)
    principal = control.run(lambda parts: parts.keys.get(old.access_key))
    client.delete_function(FunctionName=caller)
    create(client, caller)
    _allow(control, caller, Statement(("*",), ("*",)))
    successor = control.function(caller).access_key
    control.run(lambda parts: parts.keys.delete(successor))
    control.run(lambda parts: parts.keys.put(principal))
    with refused("AccessDeniedException", 403):
        control.client(caller).get_function(FunctionName=caller)
    control.run(lambda parts: parts.keys.delete(principal.access_key))


def test_a_disabled_key_opens_nothing(control, caller):
    _allow(control, caller, Statement(("*",), ("*",)))
    access_key = control.function(caller).access_key
    key = control.run(lambda parts: parts.keys.get(access_key))
    control.run(lambda parts: parts.keys.put(replace(key, enabled=False)))
    with refused("MissingAuthenticationTokenException", 403):
        control.client(caller).get_function(FunctionName=caller)
