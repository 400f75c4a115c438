from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from okiba.apps.gateway.services import check_revision  # noqa: F401 (the other door imports without a cluster)
from okiba.apps.kube import functions as functions_module
from okiba.apps.kube.functions import FunctionObjects, Surroundings
from okiba.apps.kube.packages import Packages
from okiba.core.errors import ClusterUnavailable, StoreUnavailable
from okiba.core.function import State
from okiba.core.preparation import prepared
from okiba.core.preparation import refused as preparation_refused
from tests.fakes.kube import FakeKube
from tests.fakes.preparing import FakeKeys, FakeRegistry
from tests.unit.kube.conftest import becomes_true, running

EXAMPLE = Path(__file__).parents[3] / "examples/01-thumbnails"
HELLO = {"handler": "index.handler", "code": {"inline": "def handler(event, context):\n    return 'hello'\n"}}


class FakeStore:
    """Packages by key."""

    def __init__(self) -> None:
        self.packages: dict[str, bytes] = {}
        self.away = False

    def put(self, key, path) -> None:
        if self.away:
            raise StoreUnavailable("the object store is away")
        self.packages[key] = path.read_bytes()


class Forgetful:
    """Queue and logs, as far as removing functions needs them."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def forget(self, function: str) -> int:
        self.forgotten.append(function)
        return 0


class Namespace:
    """A namespace with `Function` objects, and the controller that follows them."""

    def __init__(self) -> None:
        self.kube, self.registry, self.keys, self.store = FakeKube(), FakeRegistry(), FakeKeys(), FakeStore()
        self.queue, self.logs = Forgetful(), Forgetful()
        self.slots: dict[str, int] = {}
        self.buckets: set[str] = set()

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        async def config_map(name):
            return await self.kube.call(self.kube.config_map, name)

        async def make_bucket(bucket):
            self.buckets.add(bucket)

        around = Surroundings(
            self.registry,
            self.keys,
            self.queue,
            self.logs,
            Packages(self.store, config_map),
            make_bucket,
            "x86_64",
            "linux-x86_64",
            lambda: self.slots,
        )
        async with running(FunctionObjects(self.kube, around).run()):
            yield

    def status(self, name="hello"):
        return self.kube.functions_by_name[name].get("status") or {}

    def ready(self, name="hello"):
        conditions = self.status(name).get("conditions") or [{}]
        return conditions[0].get("status"), conditions[0].get("reason")

    async def prepares(self, name="hello") -> None:
        """As the reconciler does."""
        function = self.registry.functions[name]
        await self.registry.put(prepared(function), replaces=function.revision)


@pytest.fixture
async def namespace() -> Namespace:
    return Namespace()


async def test_an_object_becomes_a_function_and_is_told_what_became_of_it(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO | {"memorySize": 256, "environment": {"COLOUR": "blue"}})
        await becomes_true(lambda: namespace.status().get("state") == "Pending", "it is being prepared")
        function = namespace.registry.functions["hello"]
        assert (function.managed_by, function.memory_mb, function.environment) == (
            "kubernetes",
            256,
            {"COLOUR": "blue"},
        )
        assert f"code/{function.code_sha256}.zip" in namespace.store.packages
        assert [principal.name for principal in namespace.keys.principals.values()] == ["hello"]
        assert namespace.ready() == ("Unknown", "Preparing")
        await namespace.prepares()
        await becomes_true(lambda: namespace.ready() == ("True", "Prepared"), "it is ready")
        assert namespace.status()["observedGeneration"] == 1
        assert namespace.status()["lastError"] == ""


async def test_an_object_that_is_applied_again_unchanged_changes_nothing(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: "hello" in namespace.registry.functions, "it is there")
        await namespace.prepares()
        await becomes_true(lambda: namespace.ready() == ("True", "Prepared"), "it is ready")
        revision = namespace.registry.functions["hello"].revision
        namespace.kube.apply("hello", dict(HELLO))
        await becomes_true(lambda: namespace.status()["observedGeneration"] == 2, "it was looked at")
        assert namespace.registry.functions["hello"].revision == revision
        told = len(namespace.kube.statuses)
        namespace.slots = {"hello": 3}
        await becomes_true(lambda: namespace.status()["slots"] == 3, "slots are told")
        assert len(namespace.kube.statuses) == told + 1


async def test_a_change_of_the_object_is_a_new_revision(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: "hello" in namespace.registry.functions, "it is there")
        await namespace.prepares()
        first = namespace.registry.functions["hello"]
        namespace.kube.apply("hello", HELLO | {"timeout": 60, "reservedConcurrency": 2})
        await becomes_true(lambda: namespace.registry.functions["hello"].timeout_s == 60, "it is changed")
        changed = namespace.registry.functions["hello"]
        assert changed.revision != first.revision
        assert changed.running is not None
        assert changed.reserved_concurrency == 2
        await becomes_true(lambda: namespace.ready() == ("Unknown", "Updating"), "it is told")


async def test_a_function_that_others_manage_is_left_alone_and_the_object_says_whose_it_is(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: "hello" in namespace.registry.functions, "it is there")
        theirs = replace(namespace.registry.functions["hello"], managed_by="photos")
        namespace.registry.deploy(theirs)
        namespace.kube.apply("hello", HELLO | {"timeout": 99})
        await becomes_true(lambda: namespace.ready() == ("False", "Conflict"), "the conflict is told")
        assert "'photos'" in namespace.status()["lastError"]
        assert namespace.registry.functions["hello"] == theirs
        namespace.kube.delete_function("hello")
        await becomes_true(lambda: "hello" not in namespace.kube.functions_by_name, "the object goes")
        assert namespace.registry.functions["hello"] == theirs


async def test_deleting_the_object_removes_the_function_and_all_that_is_its_own(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: "hello" in namespace.registry.functions, "it is there")
        await becomes_true(lambda: namespace.status(), "it is told")
        namespace.kube.delete_function("hello")
        assert "hello" in namespace.kube.functions_by_name  # the finalizer holds it
        await becomes_true(lambda: "hello" not in namespace.kube.functions_by_name, "the object goes")
        assert namespace.registry.functions == {}
        assert namespace.keys.principals == {}
        assert set(namespace.queue.forgotten) == set(namespace.logs.forgotten) == {"hello"}


async def test_an_object_deleted_while_no_controller_ran_takes_its_function_with_it(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: namespace.status(), "it is told")
    namespace.kube.delete_function("hello")
    async with namespace.followed():
        await becomes_true(lambda: "hello" not in namespace.kube.functions_by_name, "the object goes")
        assert namespace.registry.functions == {}


async def test_an_empty_list_removes_no_function(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: namespace.status(), "it is told")
        before = namespace.kube.lists
        namespace.kube.lists_nothing = namespace.kube.forgets = True
        await becomes_true(lambda: namespace.kube.lists > before, "objects are listed anew")
        namespace.kube.lists_nothing = False
        namespace.kube.apply("other", HELLO)
        await becomes_true(lambda: "other" in namespace.registry.functions, "the other one is there")
        assert namespace.registry.functions["hello"].managed_by == "kubernetes"


async def test_an_object_that_went_without_its_finalizer_leaves_its_function_to_the_other_door(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: namespace.status(), "it is told")
    del namespace.kube.functions_by_name["hello"]
    async with namespace.followed():
        await becomes_true(lambda: namespace.registry.functions["hello"].managed_by == "api", "it is the API's")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (HELLO | {"environment": {"AWS_REGION": "mars"}}, "AWS_REGION"),
        (HELLO | {"code": {}}, "exactly one of"),
        (HELLO | {"code": {"inline": "x", "configMap": {"name": "y"}}}, "exactly one of"),
        (HELLO | {"code": {"configMap": {"name": "nowhere"}}}, "no ConfigMap nowhere"),
        (HELLO | {"secrets": [{"variable": "KEY", "name": "nowhere", "key": "k"}]}, "no Secret nowhere"),
        (HELLO | {"events": [{"name": "e", "bucket": "okiba", "events": ["s3:ObjectCreated:*"]}]}, "platform's own"),
        (HELLO | {"events": [{"name": "e", "bucket": "photos", "events": ["s3:Nonsense:*"]}]}, "s3:Nonsense:*"),
        (HELLO | {"requirements": "--index-url http://evil"}, "options of pip"),
        (HELLO | {"memorySize": 64}, "memorySize"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_object_that_is_refused_says_why_and_makes_no_function(namespace, spec, told):
    async with namespace.followed():
        namespace.kube.apply("hello", spec)
        await becomes_true(lambda: namespace.ready() == ("False", "Refused"), "the refusal is told")
        assert told in namespace.status()["lastError"]
        assert namespace.registry.functions == {}


async def test_a_change_that_is_refused_leaves_the_function_as_it_was(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: "hello" in namespace.registry.functions, "it is there")
        await namespace.prepares()
        before = namespace.registry.functions["hello"]
        namespace.kube.apply("hello", HELLO | {"memorySize": 20_000})
        await becomes_true(lambda: namespace.ready() == ("False", "Refused"), "the refusal is told")
        assert namespace.registry.functions["hello"] == before


async def test_secrets_and_config_maps_are_read_by_name_and_their_changes_seen(namespace, monkeypatch):
    monkeypatch.setattr(functions_module, "REFRESH_S", 0.1)
    namespace.kube.secrets["db"] = {"data": {"password": base64.b64encode(b"s3cret").decode()}}
    namespace.kube.config_maps["code"] = {"data": {"app.py": "def handler(e, c): return 1", "requirements.txt": "x==1"}}
    async with namespace.followed():
        spec = {
            "handler": "app.handler",
            "code": {"configMap": {"name": "code"}},
            "secrets": [{"variable": "PASSWORD", "name": "db", "key": "password"}],
        }
        namespace.kube.apply("hello", spec)
        await becomes_true(lambda: "hello" in namespace.registry.functions, "it is there")
        function = namespace.registry.functions["hello"]
        assert function.environment == {"PASSWORD": "s3cret"}
        assert function.layer is not None
        assert function.layer.requirements == "x==1\n"
        namespace.kube.secrets["db"] = {"data": {"password": base64.b64encode(b"changed").decode()}}
        await becomes_true(
            lambda: namespace.registry.functions["hello"].environment == {"PASSWORD": "changed"}, "it is seen"
        )


async def test_a_function_that_cannot_be_prepared_shows_the_reason(namespace):
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: namespace.status().get("state") == "Pending", "it is there, and told to be")
        async with asyncio.timeout(10):
            while namespace.status().get("lastError") != "no such package":
                function = namespace.registry.functions["hello"]
                if function.state is State.PENDING:  # once more where the object was read before its first status was
                    refusal = preparation_refused(function, "no such package")
                    await namespace.registry.put(refusal, replaces=function.revision)
                await asyncio.sleep(0.005)
        assert namespace.status()["state"] == "Failed"
        namespace.kube.apply("hello", dict(HELLO))
        await becomes_true(
            lambda: namespace.registry.functions["hello"].state is State.PENDING, "applied anew it is tried again"
        )


async def test_what_is_away_is_tried_again(namespace):
    namespace.store.away = True
    async with namespace.followed():
        namespace.kube.apply("hello", HELLO)
        await becomes_true(lambda: namespace.kube.functions_by_name["hello"]["metadata"].get("finalizers"), "held")
        namespace.kube.away = ClusterUnavailable("nobody answers")
        namespace.store.away = False
        namespace.kube.away = None
        await becomes_true(lambda: "hello" in namespace.registry.functions, "it is there")


async def test_the_example_becomes_the_function_that_its_template_describes(namespace):
    function, config_map = yaml.safe_load_all((EXAMPLE / "function.yaml").read_text())
    sources = {path.name: path.read_text() for path in (EXAMPLE / "src").iterdir() if path.is_file()}
    assert config_map["data"] == sources
    namespace.kube.config_maps[config_map["metadata"]["name"]] = config_map
    async with namespace.followed():
        namespace.kube.apply("thumbnails", function["spec"])
        await becomes_true(lambda: "thumbnails" in namespace.registry.functions, "it is there")
    made = namespace.registry.functions["thumbnails"]
    assert (made.handler, made.memory_mb, made.timeout_s) == ("app.handler", 512, 30)
    assert made.layer is not None
    assert namespace.buckets == {"thumbnails"}
    assert [(binding.bucket, binding.events) for binding in made.bindings] == [("photos", ("s3:ObjectCreated:*",))]
