"""Several gateways: whoever is asked answers, and whatever befalls an owner, another takes over, exactly."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.installation import eventually
from tests.integration.gateways.conftest import Site, calls, invoke, most_at_once

pytestmark = pytest.mark.timeout(300)

TAKEOVER_S = 5.0


@pytest.fixture
def everyone(site: Site) -> Site:
    """The site with all its gateways alive and well."""
    for gateway in site.okiba.gateways:
        if gateway.process is None or gateway.process.poll() is not None:
            gateway.start()
        gateway.signal(signal.SIGCONT)
        eventually(lambda gateway=gateway: gateway.ready, 30)
    time.sleep(3)  # until each has settled: functions are given to those only
    return site


def clients(site: Site, but: str = "") -> list[object]:
    return [site.okiba.client("lambda", at=gateway.address) for gateway in site.okiba.gateways if gateway.name != but]


def asynchronously(client, function: str, **event: object) -> str:
    answer = client.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event))
    return answer["ResponseMetadata"]["RequestId"]


def test_a_call_is_answered_alike_by_whichever_gateway_is_asked(everyone):
    function, notes = everyone.function_of("gateway-1")
    for client in [everyone.okiba.client("lambda"), *clients(everyone)]:
        assert invoke(client, function, key="k") == {"key": "k"}
    assert everyone.owner(function) == "gateway-1"
    assert len(calls(notes)) == 3


def test_errors_limits_and_logs_come_through_a_gateway_that_passes_calls_on(everyone):
    code = "def handler(event, context):\n    print('seen')\n    raise ValueError('no')\n"
    for number in range(20):
        everyone.okiba.deploy_inline(f"fails-{number}", code)
        if eventually(lambda number=number: everyone.owner(f"fails-{number}")) == "gateway-1":
            break
    answer = everyone.okiba.client("lambda", at=everyone.gateway("gateway-2").address).invoke(
        FunctionName=f"fails-{number}", LogType="Tail"
    )
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "ValueError"
    assert answer["LogResult"]
    function, _ = everyone.function_of("gateway-1", concurrency=1)
    one, two = clients(everyone)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(invoke, one, function, key="a", seconds=2)
        eventually(lambda: everyone.okiba.gateways and _refused(two, function), 2)
        assert running.result() == {"key": "a"}


def _refused(client, function: str) -> bool:
    try:
        client.invoke(FunctionName=function, Payload=b"{}")
    except client.exceptions.TooManyRequestsException:
        return True
    return False


def test_asynchronous_work_accepted_anywhere_runs_at_the_owner_at_once(everyone):
    function, notes = everyone.function_of("gateway-1")
    other = everyone.okiba.client("lambda", at=everyone.gateway("gateway-2").address)
    invoke(other, function)
    begun = time.monotonic()
    asynchronously(other, function, key="async")
    (noted,) = eventually(lambda: [call for call in calls(notes) if call[0] == "async"], 5)
    print(f"accepted at a non-owner, running after {(noted[1] - begun) * 1000:.0f} ms")
    assert noted[1] - begun < 0.9  # the owner was woken: its own look at the queue comes once a second


def test_a_killed_owners_functions_are_taken_over_and_its_running_work_is_collected_and_not_repeated(everyone):
    function, notes = everyone.function_of("gateway-1", concurrency=3)
    survivor = everyone.okiba.client("lambda", at=everyone.gateway("gateway-2").address)
    invoke(survivor, function, key="warm")
    requests = [asynchronously(survivor, function, key=f"long-{number}", seconds=6) for number in range(2)]
    eventually(lambda: len(calls(notes)) == 3, 10)
    epoch, killed = everyone.epoch(function), time.monotonic()
    everyone.gateway("gateway-1").signal(signal.SIGKILL)
    taken_s = _first_answer(survivor, function) - killed
    print(f"first answer {taken_s:.2f} s after the owner was killed")
    assert taken_s <= TAKEOVER_S
    assert everyone.owner(function) in {"gateway-2", "first"}
    assert everyone.epoch(function) > epoch
    for request in requests:
        eventually(lambda request=request: everyone.ledger(function, request) == "succeeded", 20)
    assert sorted(key for key, _, _ in calls(notes) if key.startswith("long")) == ["long-0", "long-1"]
    assert most_at_once(notes) <= 3


def _first_answer(client, function: str) -> float:
    """When a call was answered for the first time."""
    while True:
        with contextlib.suppress(BotoCoreError, ClientError):
            invoke(client, function, key="after")
            return time.monotonic()
        time.sleep(0.02)


def test_a_limit_is_held_while_owners_are_killed_one_after_the_other(everyone):
    function, notes = everyone.function_of("gateway-1", concurrency=2)
    with calling(everyone, function) as answers:
        for name in ("gateway-1", "gateway-2"):
            time.sleep(2)
            everyone.gateway(name).signal(signal.SIGKILL)
            assert everyone.gateway(name).process.wait(5)
            eventually(lambda name=name: everyone.owner(function) not in {"", name}, 15)
            everyone.gateway(name).start()
        time.sleep(2)
    print(f"{sum(answers)} calls answered through two deaths, at most {most_at_once(notes)} at once")
    assert sum(answers) > 20
    assert most_at_once(notes) == 2


def _call_until(stop: threading.Event, client, function: str) -> int:
    answered = 0
    while not stop.is_set():
        with contextlib.suppress(BotoCoreError, ClientError):
            invoke(client, function, key=str(time.monotonic_ns()), seconds=0.05)
            answered += 1
        time.sleep(0.01)
    return answered


def test_a_hot_function_runs_at_more_than_one_gateway_and_keeps_its_limit(everyone):
    function, notes = everyone.function_of("gateway-1", concurrency=10)
    neighbour = everyone.gateway("gateway-2")
    with calling(everyone, function) as answers:
        eventually(lambda: _ran_at(neighbour, function) > 20, 30)
    print(f"{sum(answers)} calls, {_ran_at(neighbour, function):.0f} of them in slots that the owner had lent")
    requests = [asynchronously(clients(everyone)[0], function, key=f"async-{n}", seconds=1) for n in range(10)]
    for request in requests:  # what was lent comes back for them
        eventually(lambda request=request: everyone.ledger(function, request) == "succeeded", 20)
    assert most_at_once(notes) <= 10


@contextlib.contextmanager
def calling(site: Site, function: str) -> Iterator[list[int]]:
    """Calls go on at all gateways meanwhile; how many each caller has had answered, once they have ended."""
    stop, answers = threading.Event(), []
    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(_call_until, stop, client, function) for client in clients(site) * 4]
        try:
            yield answers
        finally:
            stop.set()
            answers += [caller.result() for caller in callers]


def _ran_at(gateway, function: str) -> float:
    """How many calls of a function this gateway has run itself."""
    with urlopen(f"http://{gateway.admin}/metrics", timeout=10) as page:
        text = page.read().decode()
    return sum(
        float(count) for count in re.findall(rf'^okiba_invocations_total{{function="{function}"}} (.+)$', text, re.M)
    )


def test_a_stopped_owner_that_wakes_up_finds_itself_fenced_off_and_passes_calls_on(everyone):
    function, notes = everyone.function_of("gateway-1", concurrency=2)
    owner, survivor = (
        everyone.gateway("gateway-1"),
        everyone.okiba.client("lambda", at=everyone.gateway("gateway-2").address),
    )
    invoke(survivor, function, key="warm")
    request = asynchronously(survivor, function, key="long", seconds=8)
    eventually(lambda: len(calls(notes)) == 2, 10)
    epoch = everyone.epoch(function)
    owner.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    eventually(lambda: everyone.owner(function) not in {"", "gateway-1"}, 15)
    assert invoke(survivor, function, key="meanwhile") == {"key": "meanwhile"}
    print(f"answered {time.monotonic() - stopped:.2f} s after the owner was stopped")
    owner.signal(signal.SIGCONT)
    woken = everyone.okiba.client("lambda", at=owner.address)
    eventually(lambda: _answers(woken, function), 20)
    eventually(lambda: everyone.ledger(function, request) == "succeeded", 20)
    assert everyone.epoch(function) > epoch
    assert [key for key, _, _ in calls(notes)].count("long") == 1
    assert most_at_once(notes) <= 2
    answers = [_answers(woken, function) for _ in range(20)]
    assert all(answers)


def _answers(client, function: str) -> bool:
    with contextlib.suppress(BotoCoreError, ClientError):
        invoke(client, function, key="again")
        return True
    return False


def test_gateways_are_restarted_one_after_the_other_without_a_failed_call(everyone):
    functions = [everyone.function_of(name)[0] for name in ("gateway-1", "gateway-2")]
    limited, notes = everyone.function_of("gateway-1", concurrency=4)
    stop = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(_through_the_service, everyone, stop, function) for function in functions * 2]
        callers += [pool.submit(_through_the_service, everyone, stop, limited, seconds=0.1) for _ in range(2)]
        requests = []
        try:
            for gateway in everyone.okiba.gateways:
                time.sleep(1)
                requests.append(asynchronously(everyone.okiba.client("lambda"), limited, key="async", seconds=3))
                assert gateway.end() == 0
                gateway.start()
            time.sleep(3)
        finally:
            stop.set()
        counts = [caller.result() for caller in callers]
    print(f"{sum(counts)} calls through two restarts, none failed")
    assert min(counts) > 10
    for request in requests:
        eventually(lambda request=request: everyone.ledger(limited, request) == "succeeded", 20)
    assert [key for key, _, _ in calls(notes)].count("async") == len(requests)
    assert most_at_once(notes) <= 4


def _through_the_service(site: Site, stop: threading.Event, function: str, **event: object) -> int:
    """Calls as a Service spreads them: to gateways that are ready; where nobody listens, the next is tried."""
    answered = 0
    while not stop.is_set():
        for gateway in site.okiba.gateways:
            if gateway.ready:
                with site.okiba.passing_client("lambda", at=gateway.address) as client:
                    answered += _unless_nobody_listens(lambda client=client: invoke(client, function, **event))
    return answered


def _unless_nobody_listens(call: Callable[[], object]) -> int:
    from botocore.exceptions import EndpointConnectionError

    try:
        call()
    except EndpointConnectionError:
        return 0
    return 1
