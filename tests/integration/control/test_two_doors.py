"""A function that a `Function` object describes is not Lambda's API's to change; everything else of it can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from okiba.flow.deploy import KUBERNETES
from tests.integration.control.lambda_calls import OTHER_ZIP, create, refused

CHANGES: dict[str, Callable[[Any, str], Any]] = {
    "its code": lambda client, name: client.update_function_code(FunctionName=name, ZipFile=OTHER_ZIP),
    "its configuration": lambda client, name: client.update_function_configuration(FunctionName=name, Timeout=9),
    "its concurrency": lambda client, name: client.put_function_concurrency(
        FunctionName=name, ReservedConcurrentExecutions=1
    ),
    "its retries": lambda client, name: client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0
    ),
    "it as a whole": lambda client, name: client.delete_function(FunctionName=name),
}


@pytest.fixture
def declared(control, client, name):
    """A function that a `Function` object describes."""
    create(client, name)

    async def hand_over(parts):
        function = await parts.registry.get(name)
        await parts.registry.put(replace(function, managed_by=KUBERNETES), replaces=function.revision)

    control.run(hand_over)
    return name


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_other_door_may_not_change(control, client, declared, change):
    before = control.function(declared)
    with refused("ResourceConflictException", 409, "managed by Kubernetes"):
        change(client, declared)
    assert control.function(declared) == before


def test_okiba_deploy_may_not_take_it_over(control, declared):
    status, _, answer = control.ask("PUT", f"/okiba/v1/functions/{declared}/attachments", {"managed_by": "photos"})
    assert status == 409
    assert "kubectl edit function" in answer["message"]
    assert control.function(declared).managed_by == KUBERNETES


def test_it_can_be_read(client, declared):
    assert client.get_function(FunctionName=declared)["Configuration"]["FunctionName"] == declared


def test_nobody_can_say_of_himself_that_he_is_kubernetes(control, client, name):
    create(client, name)
    status, _, _ = control.ask("PUT", f"/okiba/v1/functions/{name}/attachments", {"managed_by": KUBERNETES})
    assert status == 400
    assert control.function(name).managed_by == "api"
