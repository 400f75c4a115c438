"""Controller and jobs as processes, on a real Valkey and a real MinIO: from a stored package to an active function."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from minio import Minio
from minio.error import S3Error

from okiba.adapters.layer_pip import LayerBuilder
from okiba.adapters.local_python import find_interpreter
from okiba.adapters.redis_conditions import RedisConditions
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_registry import RedisKeys, RedisRegistry
from okiba.adapters.vault import Vault
from okiba.core.binding import Binding
from okiba.core.function import Function, State, Statement, UpdateStatus, to_prepare
from okiba.core.layer import base_layer, layer_of, layer_packages
from okiba.core.notification import minio_notify_environment
from okiba.ports import Principal
from tests.deadline import until_async
from tests.servers import MinioServer, ValkeyServer, end, free_port, minio, pss_kb
from tests.servers import valkey as start_valkey

HERE = f"python3.{sys.version_info[1]}"
PLATFORM_KEY = "ab" * 32
UPLOADS = Binding("Upload", "photos", ("s3:ObjectCreated:*",))
IDLE_PSS_KB = 100_000


@dataclass
class Site:
    """Stores, and what a gateway would do to them."""

    folder: Path
    valkey: ValkeyServer
    minio: MinioServer
    link: RedisLink

    def __post_init__(self):
        vault = Vault(PLATFORM_KEY)
        self.registry, self.keys = RedisRegistry(self.link, vault, "default"), RedisKeys(self.link, vault)
        self.root = self.client(self.minio.access_key, self.minio.secret_key)

    def client(self, access_key, secret):
        address = self.minio.endpoint.removeprefix("http://")
        return Minio(address, access_key=access_key, secret_key=secret, secure=False, region="us-east-1")

    def package(self, **files):
        """Stores a package; its digest and size."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"{name}.py", content)
        packed = buffer.getvalue()
        digest = hashlib.sha256(packed).hexdigest()
        if not self.root.bucket_exists("okiba"):
            self.root.make_bucket("okiba")
        self.root.put_object("okiba", f"code/{digest}.zip", io.BytesIO(packed), len(packed))
        return digest, len(packed)

    async def create(self, name, **changes):
        access_key = f"OKIA{secrets.token_hex(8).upper()}"
        await self.keys.put(Principal(access_key, secrets.token_urlsafe(24), name))
        digest, size = self.package(app=f"def handler(event, context): return {name!r}")
        function = Function(name, HERE, "app.handler", digest, size, "r1", 1, access_key)
        await self.registry.put(replace(function, **changes), replaces=None)

    async def state(self, name):
        return (await self.registry.get(name)).state

    async def becomes(self, name, state, seconds=90):
        async def so():
            return await self.state(name) is state

        await until_async(so, f"{name} to be {state}", seconds)

    @contextmanager
    def process(self, module, **settings):
        environment = {
            **os.environ,
            "OKIBA_STATE_DIR": str(self.folder),
            "OKIBA_REDIS_URL": self.valkey.url,
            "OKIBA_BROKER_URL": self.valkey.broker_url,
            "OKIBA_S3_ENDPOINT": self.minio.endpoint,
            "OKIBA_S3_ACCESS_KEY": self.minio.access_key,
            "OKIBA_S3_SECRET_KEY": self.minio.secret_key,
            "OKIBA_PLATFORM_KEY": PLATFORM_KEY,
            **settings,
        }
        with (self.folder / f"{module}.log").open("ab") as log:
            argv = [sys.executable, "-m", f"okiba.apps.{module}"]
            process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            end(process)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    """A state folder with the base layer in it, which takes 11 s to build."""
    folder = tmp_path_factory.mktemp("base")
    builder = LayerBuilder(folder, find_interpreter, os.environ)
    builder.build(base_layer(HERE, sysconfig.get_platform()), HERE, print)
    return folder


@pytest.fixture
def state_dir(base_folder, tmp_path):
    shutil.copytree(base_folder / "layers", tmp_path / "layers", copy_function=os.link)
    (tmp_path / "minio").mkdir()
    return tmp_path


@pytest.fixture
async def site(valkey, state_dir):
    lanes = minio_notify_environment(f"http://127.0.0.1:{free_port()}", "token", state_dir / "queue")
    with minio(state_dir / "minio", lanes) as store:
        link = await RedisLink.open(valkey.url)
        yield Site(state_dir, valkey, store, link)
        await link.close()


async def test_a_function_is_prepared_from_its_package_to_its_buckets_rules(site):
    allow = Statement(("s3:PutObject",), ("arn:aws:s3:::thumbs/*",))
    six = layer_of("six==1.17.0", HERE, sysconfig.get_platform())
    await site.create("photo", layer=six, bindings=(UPLOADS,), statements=(allow,))
    with site.process("controller"), site.process("jobs"):
        await site.becomes("photo", State.ACTIVE)
    function = await site.registry.get("photo")
    assert function.last_update is UpdateStatus.SUCCESSFUL
    assert (site.folder / "code" / function.code_sha256 / "app.py").is_file()
    assert (site.folder / layer_packages(six.hash) / "six.py").is_file()
    rules = site.root.get_bucket_notification("photos").queue_config_list
    assert {rule.config_id for rule in rules} == {"okiba-direct", "okiba-queued"}
    secret = (await site.keys.get(function.access_key)).secret
    site.root.make_bucket("thumbs")
    site.client(function.access_key, secret).put_object("thumbs", "small.jpg", io.BytesIO(b"x"), 1)
    with pytest.raises(S3Error, match="AccessDenied"):
        site.client(function.access_key, secret).put_object("photos", "no.jpg", io.BytesIO(b"x"), 1)


async def test_what_cannot_be_prepared_fails_and_what_can_goes_on(site):
    broken = layer_of("no-such-package-of-okiba", HERE, sysconfig.get_platform())
    await site.create("hopeless", layer=broken)
    with site.process("controller"), site.process("jobs"):
        await site.becomes("hopeless", State.FAILED)
        await site.create("fine")
        await site.becomes("fine", State.ACTIVE)
    assert "No matching distribution found" in (await site.registry.get("hopeless")).state_reason


async def test_a_package_that_is_damaged_in_the_store_is_not_unpacked(site):
    await site.create("damaged")
    function = await site.registry.get("damaged")
    site.root.put_object("okiba", f"code/{function.code_sha256}.zip", io.BytesIO(b"PK rubbish"), 10)
    with site.process("controller"), site.process("jobs"):

        async def told():
            return "is damaged" in (await site.registry.get("damaged")).state_reason

        await until_async(told, "the damage to be told")
    assert await site.state("damaged") is State.PENDING
    assert not (site.folder / "code" / function.code_sha256).exists()


async def test_deleting_a_function_takes_its_user_and_its_rules_along(site):
    await site.create("photo", bindings=(UPLOADS,))
    with site.process("controller"), site.process("jobs"):
        await site.becomes("photo", State.ACTIVE)
        function = await site.registry.get("photo")
        secret = (await site.keys.get(function.access_key)).secret
        await site.registry.delete("photo")

        async def silent():
            return not site.root.get_bucket_notification("photos").queue_config_list

        await until_async(silent, "the bucket to fall silent")

        async def unknown():
            try:
                site.client(function.access_key, secret).list_buckets()
            except S3Error as error:
                return error.code == "InvalidAccessKeyId"
            return False

        await until_async(unknown, "the user to go")


async def test_a_change_is_prepared_while_the_function_stays_active(site):
    await site.create("photo")
    with site.process("controller"), site.process("jobs"):
        await site.becomes("photo", State.ACTIVE)
        function = await site.registry.get("photo")
        digest, size = site.package(app="def handler(event, context): return 2")
        changed = replace(to_prepare(function, "r2"), code_sha256=digest, code_bytes=size)
        await site.registry.put(changed, replaces="r1")

        async def through():
            return (await site.registry.get("photo")).last_update is UpdateStatus.SUCCESSFUL

        await until_async(through, "the change to be prepared")
    assert (site.folder / "code" / digest / "app.py").is_file()


async def test_the_controller_waits_for_redis_and_minio_and_says_what_it_misses(state_dir):
    with ExitStack() as stack:
        (state_dir / "valkey").mkdir()
        server = stack.enter_context(start_valkey(state_dir / "valkey"))
        store = stack.enter_context(minio(state_dir / "minio"))
        port = int(store.endpoint.rpartition(":")[2])
        end(server.process)
        end(store.process)
        site = Site(state_dir, server, store, link=None)
        controller = stack.enter_context(site.process("controller"))
        stack.enter_context(site.process("jobs"))
        log = state_dir / "controller.log"

        async def waits():
            return "waiting for Redis" in log.read_text()

        await until_async(waits, "the controller to wait for Redis")
        stack.enter_context(start_valkey(state_dir / "valkey", socket_path=server.socket))
        link = await RedisLink.open(server.url)
        conditions = RedisConditions(link)

        async def misses_minio():
            minio_condition = (await conditions.all()).get("minio")
            return minio_condition and not minio_condition.ok and "did not answer" in minio_condition.message

        await until_async(misses_minio, "MinIO to be missed")
        stack.enter_context(minio(state_dir / "minio", port=port))

        async def well():
            return all(condition.ok for condition in (await conditions.all()).values())

        await until_async(well, "MinIO to be found")
        site = Site(state_dir, server, store, link)
        await site.create("photo")
        await site.becomes("photo", State.ACTIVE)
        controller.terminate()
        assert controller.wait(10) == 0
        await link.close()


async def test_idle_it_takes_little_memory(site):
    await site.create("photo")
    with site.process("controller") as controller, site.process("jobs"):
        await site.becomes("photo", State.ACTIVE)
        assert pss_kb(controller.pid) < IDLE_PSS_KB
