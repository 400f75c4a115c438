"""The platform's side of slots that share no folder: builders, shelves and the gateway's opener, on real parts."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import sysconfig

import pytest
import redis

from okiba.adapters.celery_broker import broker_of
from okiba.adapters.celery_jobs import JobSender
from okiba.adapters.code_stored import StoredCode
from okiba.adapters.layer_stored import StoredLayers
from okiba.adapters.redis_layers import LayerBook, RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.s3_admin import S3Admin
from okiba.adapters.s3_store import S3Store, code_key, layer_key
from okiba.adapters.slot_opener import HttpSlotOpener
from okiba.adapters.slot_parts import StoredParts
from okiba.core.errors import InvalidParameter, SlotLost
from okiba.core.function import Function
from okiba.core.invocation import Ending, Invocation
from okiba.core.layer import LayerArchive, LayerPhase, base_layer, layer_of
from okiba.core.names import Home
from okiba.core.presign import Signer
from okiba.ports import SlotAddress
from okiba.settings import Settings
from tests import servers
from tests.deadline import until
from tests.fakes.logs import MemoryLogs
from tests.integration.fetch.conftest import packed

HERE = f"python3.{sys.version_info[1]}"
SIX = layer_of("six==1.17.0", HERE, "linux-x86_64")
HOME = Home("us-east-1", "0" * 12)
WEEK_MS = 7 * 86_400_000


@pytest.fixture(scope="session")
def interpreter() -> str:
    """The one that layers are built for here."""
    return sys.executable


@pytest.fixture(scope="module")
def settings(minio_server, tmp_path_factory):
    return Settings(
        state_dir=tmp_path_factory.mktemp("state"),
        s3_endpoint=minio_server.endpoint,
        s3_access_key=minio_server.access_key,
        s3_secret_key=minio_server.secret_key,
        code_from="store",
        platform_key="ab" * 32,
    )


@pytest.fixture
def objects(settings, store):
    return S3Store.of(settings)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with servers.valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def link(valkey):
    opened = await RedisLink.open(valkey.url)
    yield opened
    await opened.close()


def _deployed(store, files, **changes) -> Function:
    archive = packed(files)
    part = store.part(archive)
    return Function("f", HERE, "app.handler", part["sha256"], part["size"], "r1", 0, "OKIAF", **changes)


def _opener(settings, read_archive, packages):
    signer = Signer(settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.region)
    parts = StoredParts(signer, read_archive, str(packages))
    logs = MemoryLogs(100_000)
    return HttpSlotOpener(lambda _: 7, settings.platform_key, parts, HOME, lambda _: None, {}, logs, lambda *_: None)


async def _open(opener, slot, function):
    address = SlotAddress("okiba-slot-x.0", f"{HERE}/128", slot.address, "", "")
    return await opener.open(address, function, lambda _: None)


def _invocation(payload):
    return Invocation("8f5a1f0e-3c61-4a51-9d2a-0d3f1c2b4a5e", "f", payload, HOME.arn("f"))


async def _end(slot):
    """The slot has ended, and its last beat has been read."""
    await slot.shut_down()
    async with asyncio.timeout(20):
        await slot._follower
    await asyncio.sleep(0)


async def _nothing(_):
    return None


async def test_the_gateway_runs_a_function_in_a_slot_that_shares_no_folder_with_it(agents, store, settings, tmp_path):
    function = _deployed(store, {"app.py": "def handler(event, context): return [event, context.function_name]"})

    slot = await _open(_opener(settings, _nothing, tmp_path), agents(), function)
    outcome = await slot.invoke(_invocation(b'{"key": 1}'), 3000)
    await _end(slot)

    assert (outcome.ending, outcome.payload) == (Ending.SUCCEEDED, b'[{"key": 1}, "f"]')


async def test_code_that_is_gone_is_the_platform_s_trouble_and_not_the_function_s(agents, store, settings, tmp_path):
    function = _deployed(store, {"app.py": "def handler(*_): return 'gone'"})
    store.client.remove_object("okiba", code_key(function.code_sha256))

    with pytest.raises(SlotLost, match=r"Okiba\.FetchFailed.*answered 404 NoSuchKey"):
        await _open(_opener(settings, _nothing, tmp_path), agents(), function)


async def test_a_package_that_slots_refuse_is_an_error_of_the_function(agents, store, settings, tmp_path):
    part = store.part(b"no zip")
    function = Function("f", HERE, "app.handler", part["sha256"], part["size"], "r1", 0, "OKIAF")

    slot = await _open(_opener(settings, _nothing, tmp_path), agents(), function)

    assert b"Okiba.BadPackage" in slot.greeting.init_error
    assert slot.dead


async def test_a_stored_package_is_read_once_and_must_stay(objects, settings, store, tmp_path):
    function = _deployed(store, {"app.py": "x = 1"})
    shelf = StoredCode(tmp_path, objects, S3Admin.of(settings))

    await shelf.ensure(function.code_sha256)
    await shelf.ensure(function.code_sha256)

    assert list((tmp_path / "packages").iterdir()) == []
    assert not (tmp_path / "code").exists()
    objects.delete(code_key(function.code_sha256))
    with pytest.raises(InvalidParameter, match="not stored any more: deploy it again"):
        await shelf.ensure(function.code_sha256)


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "not stored any more"), (b"no zip", "Could not unzip"), (packed({"app.py": "y"}), "is damaged")],
    ids=["absent", "no zip", "another package"],
)
async def test_a_package_that_slots_could_not_use_is_noticed_when_it_is_prepared(
    objects, settings, store, tmp_path, content, why
):
    sha256 = hashlib.sha256(os.urandom(8)).hexdigest()
    if content is not None:
        objects.put_bytes(code_key(sha256), content)

    with pytest.raises(InvalidParameter, match=why):
        await StoredCode(tmp_path, objects, S3Admin.of(settings)).ensure(sha256)


@pytest.fixture
def jobs(valkey, settings, tmp_path):
    environment = {
        **os.environ,
        "OKIBA_STATE_DIR": str(tmp_path),
        "OKIBA_CACHE_DIR": str(tmp_path / "cache"),
        "OKIBA_REDIS_URL": valkey.url,
        "OKIBA_BROKER_URL": valkey.broker_url,
        "OKIBA_CODE_FROM": "store",
        "OKIBA_S3_ENDPOINT": settings.s3_endpoint,
        "OKIBA_S3_ACCESS_KEY": settings.s3_access_key,
        "OKIBA_S3_SECRET_KEY": settings.s3_secret_key,
    }
    with (tmp_path / "jobs.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "okiba.apps.jobs"], env=environment, stdout=log, stderr=log)
    yield process
    servers.end(process)


async def test_a_layer_goes_from_its_requirements_over_the_store_into_a_slot(
    agents, jobs, link, valkey, objects, settings, store, tmp_path
):
    layers = RedisLayers(link)
    shelf = StoredLayers(tmp_path / "another", layers, JobSender(broker_of(valkey.broker_url, "")), WEEK_MS, objects)
    assert not await shelf.is_built(SIX.hash)
    await shelf.want(SIX, HERE, 1)
    with redis.Redis(unix_socket_path=valkey.socket) as client:
        until(lambda: LayerBook(client).read(SIX.hash).phase is LayerPhase.READY, "the layer", seconds=60)

    assert await shelf.is_built(SIX.hash)
    archive = await layers.archive(SIX.hash)
    assert objects.digest(layer_key(SIX.hash)) == archive.sha256
    function = _deployed(
        store, {"app.py": "import six\ndef handler(*_): return [six.__file__, six.__cached__]"}, layer=SIX
    )
    agent = agents()
    slot = await _open(_opener(settings, layers.archive, tmp_path), agent, function)
    outcome = await slot.invoke(_invocation(b"{}"), 3000)
    await _end(slot)
    assert outcome.ending is Ending.SUCCEEDED, outcome.payload
    assert f"{agent.folder}/{archive.sha256}/python/six.py".encode() in outcome.payload


async def test_a_layer_whose_archive_is_lost_or_another_is_not_there(link, valkey, objects, store, tmp_path):
    layer = layer_of("lost==1", HERE, "linux-x86_64")
    layers = RedisLayers(link)

    def shelf():
        return StoredLayers(tmp_path, layers, JobSender(broker_of(valkey.broker_url, "")), WEEK_MS, objects)

    await layers.want(layer, HERE, 1)
    with redis.Redis(unix_socket_path=valkey.socket) as client:
        LayerBook(client).ready(layer.hash, 2, LayerArchive("ab" * 32, 5))
    assert not await shelf().is_built(layer.hash)

    (tmp_path / "layer.zip").write_bytes(b"12345")
    objects.replace(layer_key(layer.hash), tmp_path / "layer.zip", "cd" * 32)
    assert not await shelf().is_built(layer.hash)

    objects.replace(layer_key(layer.hash), tmp_path / "layer.zip", "ab" * 32)
    assert await shelf().is_built(layer.hash)

    await layers.want(layer, HERE, 3)
    assert await layers.archive(layer.hash) is None
    assert not await shelf().is_built(layer.hash)


async def test_nothing_is_built_for_what_is_in_the_slots_image(link, valkey, objects, tmp_path):
    shelf = StoredLayers(tmp_path, RedisLayers(link), JobSender(broker_of(valkey.broker_url, "")), WEEK_MS, objects)
    assert await shelf.is_built(base_layer(HERE, sysconfig.get_platform()).hash)
