"""docker-compose.yml, started for real: everything in containers, and the main job through it from outside."""

import json
from pathlib import Path

import pytest

from tests.e2e.test_main_job import test_a_photo_becomes_three_thumbnails_and_then_nothing_runs_again, thumbnails
from tests.installation import eventually

__all__ = ["test_a_photo_becomes_three_thumbnails_and_then_nothing_runs_again", "thumbnails"]

pytestmark = pytest.mark.timeout(1_800)

SERVICES = ("valkey", "minio", "gateway", "controller", "jobs")
ASK_THE_GATEWAY = """
import os, urllib.error, urllib.request

def handler(event, context):
    try:
        urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/2015-03-31/functions", timeout=5)
    except urllib.error.HTTPError as error:
        return error.code
"""


def test_a_function_reaches_the_gateway_where_it_is_told_to(okiba):
    okiba.deploy_inline("asker", ASK_THE_GATEWAY)
    code, _ = okiba.invoke("asker")
    assert code == 403


@pytest.mark.parametrize("service", SERVICES)
def test_no_process_has_a_privilege_or_a_root_that_it_could_write_to(stack, service):
    inspected = stack.inspected(service)
    lines = Path(f"/proc/{inspected['State']['Pid']}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"] == ["65532"] * 4
    assert int(status["CapEff"][0], 16) == int(status["CapBnd"][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]
    assert inspected["HostConfig"]["ReadonlyRootfs"]


def test_two_ports_are_published_and_on_loopback_alone(stack):
    bound = [
        binding
        for service in SERVICES
        for bindings in (stack.inspected(service)["NetworkSettings"]["Ports"] or {}).values()
        for binding in bindings or []
    ]
    ports = {stack.environment["OKIBA_PORT"], stack.environment["OKIBA_S3_PORT"]}
    assert {binding["HostIp"] for binding in bound} == {"127.0.0.1"}
    assert {binding["HostPort"] for binding in bound} == ports


def test_secrets_are_in_volumes_and_not_in_what_the_engine_tells_of_containers(stack, okiba):
    told = json.dumps([stack.inspected(service) for service in ("prepare", *SERVICES)])
    assert okiba.variables["AWS_ACCESS_KEY_ID"] not in told
    assert okiba.variables["AWS_SECRET_ACCESS_KEY"] not in told
    assert "PLATFORM_KEY" not in told


def test_what_was_deployed_runs_again_after_a_restart(stack, okiba):
    okiba.deploy_inline("echo", "def handler(event, context):\n    return event\n")
    both = [stack.container(service) for service in ("controller", "gateway")]
    stack.podman("stop", "--time", "15", *both)
    stack.podman("start", *both)
    eventually(lambda: okiba.invoke("echo", "again")[0] == "again", 120, every=1)
