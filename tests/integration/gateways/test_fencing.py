"""What a former owner can still do when it wakes up, with a real agent and store; and what it could without epochs.

Each fence is tested with it, and shown to be what holds: the same story without it ends otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_owners import RedisOwners
from okiba.adapters.redis_queue import ANY, RedisQueue
from okiba.adapters.slot_opener import HttpSlotOpener
from okiba.core.errors import SlotLost
from okiba.core.function import Function, State
from okiba.core.invocation import Ending, Invocation, Outcome
from okiba.core.membership import Member
from okiba.core.names import Home
from okiba.ports import Slot, SlotAddress, Work
from tests.fakes.logs import MemoryLogs

PROGRAM = Path(__file__).parents[3] / "runtime" / "okiba_runtime" / "__main__.py"
KEY = "ab" * 32
HANDLER = "def handler(event, context):\n    return event\n"


@pytest.fixture
def agent(tmp_path: Path, sockets: Path) -> Iterator[SlotAddress]:
    """A warm slot's agent, and its function's code beside it."""
    (tmp_path / "app.py").write_text(HANDLER)
    address = f"unix:{sockets}/agent"
    argv = [sys.executable, "-I", "-S", "-X", "utf8", str(PROGRAM), "--listen", address]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield SlotAddress("s", "python3.11", address)
    process.terminate()
    process.wait(10)
    process.stdout.close()


class Parts:
    """Where the function's code is: nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def of(self, function: Function) -> dict[str, object]:
        return {"code": {"path": str(self.folder)}, "layers": [], "packages": []}

    async def ahead(self, function: Function) -> dict[str, object]:
        return {"layers": [], "packages": []}


class Gateway:
    """One gateway's way to slots, in an epoch."""

    def __init__(self, folder: Path, epoch: int) -> None:
        home, logs = Home("us-east-1", "000000000000"), MemoryLogs(1_000_000)
        self.dead: list[str] = []
        self.opener = HttpSlotOpener(
            lambda _: epoch, KEY, Parts(folder), home, lambda _: None, {}, logs, lambda *_: None
        )

    async def open(self, address: SlotAddress) -> Slot:
        return await self.opener.open(address, FUNCTION, lambda slot: self.dead.append(slot.id))


FUNCTION = Function("f", "python3.11", "app.handler", "0" * 64, 1, "r1", 0, "AK", state=State.ACTIVE)
TAKEN = ("f", "r1")


def taken(address: SlotAddress) -> SlotAddress:
    return SlotAddress(address.id, address.kind, address.address, *TAKEN)


async def answer(slot: Slot, request: str) -> Outcome:
    return await slot.invoke(Invocation(request, "f", b'{"n": 1}', "arn:aws:lambda:us-east-1:0:function:f"), 3_000)


async def becomes_true(condition, patience_s: float = 10) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("former_epoch", "new_epoch", "fenced"),
    [
        pytest.param(1, 2, True, id="with epochs a former owner is refused"),
        pytest.param(1, 1, False, id="without epochs it would take the slot back"),
    ],
)
async def test_a_former_owner_that_wakes_up(agent, tmp_path, former_epoch, new_epoch, fenced):
    former, new = Gateway(tmp_path, former_epoch), Gateway(tmp_path, new_epoch)
    first = await former.open(agent)
    assert (await answer(first, "r1")).payload == b'{"n": 1}'

    second = await new.open(taken(agent))  # the former owner is stopped; another takes over
    await becomes_true(lambda: former.dead == ["s"])
    assert (await answer(first, "r2")).ending is Ending.PLATFORM_FAILURE

    stolen = None  # it wakes up in the middle of opening the slot
    with pytest.raises(SlotLost, match="StaleEpoch") if fenced else contextlib.nullcontext():
        stolen = await former.open(taken(agent))
    outcome = await answer(second, "r3")
    assert (outcome.ending is Ending.SUCCEEDED) is fenced
    for slot in (first, second, stolen):
        if slot is not None:
            slot.release()


ONE, TWO = Member("one", "", 1), Member("two", "", 2)
GOOD = Outcome(Ending.SUCCEEDED, b"null")


@pytest.fixture
def owners(redis_link: RedisLink) -> RedisOwners:
    return RedisOwners(redis_link, "default")


def queue(link: RedisLink, name: str, epoch: int) -> RedisQueue:
    return RedisQueue(link, "default", name, 60_000, epoch=lambda _: epoch)


def work(number: int) -> Work:
    return Work("f", f"e{number}", f"r{number}", b"{}", "invoke", 1)


async def test_what_a_former_owner_settles_late_changes_nothing(redis_link, owners):
    former = queue(redis_link, "one", await owners.claim("f", ONE, None))
    await former.accept([work(1)])
    (stale,) = await former.lease("f", 1, 1)
    epoch = await owners.claim("f", TWO, (await owners.read(["f"]))["f"])
    new = queue(redis_link, "two", epoch)
    (lease,) = await new.recover("f")

    assert lease.attempt == stale.attempt
    assert not await former.succeed(stale, GOOD)
    assert not await former.retry(stale, GOOD, 0, lost=True, gives_back=True)
    assert not await former.bury(stale, GOOD, "RetriesExhausted")
    assert await new.succeed(lease, GOOD)


@pytest.mark.parametrize(
    ("epoch", "stolen"),
    [
        pytest.param(None, [], id="with its epoch a former owner gets no work"),
        pytest.param(ANY, ["r1", "r2"], id="without epochs it would take work out of the new owner's hands"),
    ],
)
async def test_a_former_owner_looks_for_work(redis_link, owners, epoch, stolen):
    former_epoch = await owners.claim("f", ONE, None)
    former = queue(redis_link, "one", former_epoch if epoch is None else epoch)
    new = queue(redis_link, "two", await owners.claim("f", TWO, (await owners.read(["f"]))["f"]))
    await new.accept([work(1), work(2)])
    assert len(await new.lease("f", 1, 1)) == 1

    got = [*await former.recover("f"), *await former.lease("f", 10, 1)]

    assert sorted(lease.work.request_id for lease in got) == stolen
