from dataclasses import replace

import pytest

from okiba.core.binding import Binding
from okiba.core.errors import PlatformError, StoreUnavailable
from okiba.core.function import Function, State, Statement, UpdateStatus, to_prepare
from okiba.core.layer import base_layer, layer_of
from okiba.core.s3_policy import StoreUser, s3_policy
from okiba.flow.reconcile import LAYER_POLL_MS, Parts, Reconciler
from okiba.ports import Principal
from tests.fakes.preparing import FakeCodeShelf, FakeKeys, FakeLayerShelf, FakeRegistry, FakeStoreAdmin

LINUX = "linux-x86_64"
BASE = base_layer("python3.11", LINUX)
UPLOADS = Binding("Upload", "photos", ("s3:ObjectCreated:*",))
NOW_MS = 1_000_000


class World:
    """A reconciler among fakes, with the base layer built."""

    def __init__(self):
        self.registry, self.keys = FakeRegistry(), FakeKeys()
        self.code, self.layers, self.store = FakeCodeShelf(), FakeLayerShelf(), FakeStoreAdmin()
        self.layers.built.add(BASE.hash)
        parts = Parts(
            self.registry, self.keys, self.code, self.layers, self.store, ("python3.11",), LINUX, lambda: NOW_MS
        )
        self.parts = parts
        self.reconciler = Reconciler(parts)

    def deploy(self, name="photo", **changes):
        function = Function(
            name=name,
            runtime="python3.11",
            handler="app.handler",
            code_sha256=f"code-of-{name}",
            code_bytes=1,
            revision="r1",
            last_modified_ms=NOW_MS,
            access_key=f"OKIA{name.upper()}",
        )
        function = replace(function, **changes)
        self.keys.principals[function.access_key] = Principal(function.access_key, "secret", name)
        self.registry.deploy(function)
        return function

    async def reconcile(self, name="photo"):
        return await self.reconciler.reconcile(name)

    def function(self, name="photo"):
        return self.registry.functions[name]


@pytest.fixture
def world():
    return World()


async def test_a_function_that_has_everything_becomes_active(world):
    statement = Statement(("s3:GetObject",), ("arn:aws:s3:::photos/*",))
    world.deploy(bindings=(UPLOADS,), statements=(statement,))
    assert await world.reconcile() is None
    assert world.function().state is State.ACTIVE
    assert world.function().last_update is UpdateStatus.SUCCESSFUL
    assert world.code.unpacked == {"code-of-photo"}
    assert world.store.announced == {"photos": {UPLOADS}}
    assert world.store.policies == {StoreUser("photo", "OKIAPHOTO"): s3_policy([statement])}


async def test_reconciling_again_changes_nothing(world):
    world.deploy(bindings=(UPLOADS,))
    await world.reconcile()
    generation = world.function().generation
    assert await world.reconcile() is None
    assert world.function().generation == generation


async def test_a_function_waits_for_its_layer_which_is_asked_for_once(world):
    layer = layer_of("six", "python3.11", LINUX)
    world.deploy(layer=layer)
    assert [await world.reconcile(), await world.reconcile()] == [LAYER_POLL_MS, LAYER_POLL_MS]
    assert world.layers.wanted == [layer.hash]
    assert (world.function().state, "layer" in world.function().state_reason) == (State.PENDING, True)
    world.layers.built.add(layer.hash)
    assert await world.reconcile() is None
    assert world.function().state is State.ACTIVE


async def test_the_base_layer_is_asked_for_before_any_function_is_there(world):
    world.layers.built.clear()
    await world.reconciler.survey()
    assert world.layers.wanted == [BASE.hash]


async def test_a_layer_that_cannot_be_built_fails_the_function_with_the_reason(world):
    layer = layer_of("no-such-package", "python3.11", LINUX)
    world.layers.fail(layer, "No matching distribution found for no-such-package", at_ms=NOW_MS)
    world.deploy(layer=layer)
    assert await world.reconcile() is None
    function = world.function()
    assert (function.state, function.state_reason_code) == (State.FAILED, "InvalidConfiguration")
    assert function.state_reason == "No matching distribution found for no-such-package"


async def test_deploying_again_after_a_failed_layer_tries_it_again(world):
    layer = layer_of("published-meanwhile", "python3.11", LINUX)
    world.layers.fail(layer, "No matching distribution found", at_ms=NOW_MS)
    world.deploy(layer=layer, last_modified_ms=NOW_MS + 1)
    assert await world.reconcile() == LAYER_POLL_MS
    assert world.layers.wanted == [layer.hash]


async def test_a_package_that_is_refused_fails_the_function(world):
    world.deploy()
    world.code.refused.add("code-of-photo")
    assert await world.reconcile() is None
    assert world.function().state_reason == "package code-of-photo is refused"


async def test_a_refused_revision_is_not_tried_again(world):
    world.deploy()
    world.code.refused.add("code-of-photo")
    await world.reconcile()
    world.code.refused.clear()
    assert await world.reconcile() is None
    assert world.function().state is State.FAILED


async def test_a_refused_change_leaves_an_active_function_active(world):
    world.deploy()
    await world.reconcile()
    world.registry.deploy(replace(to_prepare(world.function(), "r2"), code_sha256="evil"))
    world.code.refused.add("evil")
    await world.reconcile()
    function = world.function()
    assert (function.state, function.last_update) == (State.ACTIVE, UpdateStatus.FAILED)
    assert function.last_update_reason == "package evil is refused"


async def test_a_kind_of_event_that_the_store_does_not_know_is_refused_by_name(world):
    world.deploy(bindings=(replace(UPLOADS, events=("s3:ReducedRedundancyLostObject",)),))
    await world.reconcile()
    assert "event Upload" in world.function().state_reason
    assert "s3:ReducedRedundancyLostObject" in world.function().state_reason


async def test_a_store_that_is_away_is_waited_for_and_named(world):
    await world.reconciler.survey()
    world.deploy()
    world.store.away = StoreUnavailable("MinIO does not answer")
    with pytest.raises(PlatformError):
        await world.reconcile()
    assert (world.function().state, world.function().state_reason) == (State.PENDING, "MinIO does not answer")
    world.store.away = None
    assert await world.reconcile() is None
    assert world.function().state is State.ACTIVE


async def test_a_store_that_is_away_does_not_touch_the_record_of_an_active_function(world):
    world.deploy()
    await world.reconcile()
    before = world.function()
    world.store.away = StoreUnavailable("MinIO does not answer")
    with pytest.raises(PlatformError):
        await world.reconcile()
    assert world.function() == before


async def test_a_record_that_changed_meanwhile_is_looked_at_again_at_once(world):
    world.deploy()

    class Overtaken(FakeCodeShelf):
        async def ensure(self, sha256):
            world.deploy(revision="r2")

    await world.reconciler.survey()
    reconciler = Reconciler(replace(world.parts, code=Overtaken()))
    assert await reconciler.reconcile("photo") == 0
    assert world.function().state is State.PENDING


async def test_a_deleted_function_leaves_neither_user_nor_rules(world):
    world.deploy(bindings=(UPLOADS,))
    await world.reconcile()
    await world.registry.delete("photo")
    assert await world.reconcile() is None
    assert world.store.announced == {"photos": set()}
    assert world.store.policies == {}


async def test_rules_of_other_functions_of_the_bucket_survive_a_deletion(world):
    other = replace(UPLOADS, prefix="in/")
    world.deploy("photo", bindings=(UPLOADS,))
    world.deploy("other", bindings=(other,))
    for name in ("photo", "other"):
        await world.reconcile(name)
    await world.registry.delete("photo")
    await world.reconcile("photo")
    assert world.store.announced == {"photos": {other}}
    assert [user.function for user in world.store.policies] == ["other"]


async def test_a_bucket_that_a_function_no_longer_listens_to_falls_silent(world):
    world.deploy(bindings=(UPLOADS,))
    await world.reconcile()
    moved = replace(UPLOADS, bucket="scans")
    world.registry.deploy(replace(world.function(), bindings=(moved,)))
    await world.reconcile()
    assert world.store.announced == {"photos": set(), "scans": {moved}}


async def test_silencing_a_bucket_is_tried_again_when_the_store_was_away(world):
    world.deploy(bindings=(UPLOADS,))
    await world.reconcile()
    await world.registry.delete("photo")
    world.store.away = StoreUnavailable("MinIO does not answer")
    with pytest.raises(PlatformError):
        await world.reconcile()
    world.store.away = None
    await world.reconcile()
    assert world.store.announced == {"photos": set()}


async def test_what_was_deleted_while_no_controller_ran_is_cleared_away_at_the_start(world):
    world.store.announced["photos"] = {UPLOADS}
    world.store.policies[StoreUser("gone", "OKIAGONE")] = {}
    await world.reconciler.survey()
    assert world.store.announced == {"photos": set()}
    assert world.store.policies == {}


async def test_a_new_key_of_a_function_replaces_its_user(world):
    world.deploy()
    await world.reconcile()
    world.deploy(access_key="OKIANEW", generation=world.function().generation)
    await world.reconcile()
    await world.reconciler.survey()
    assert list(world.store.policies) == [StoreUser("photo", "OKIANEW")]


async def test_layers_of_all_that_runs_are_needed_and_those_beneath_them(world):
    own, next_one = (layer_of(text, "python3.11", LINUX) for text in ("six", "idna"))
    world.layers.built |= {own.hash}
    world.deploy(layer=own)
    world.deploy("other", runtime="python3.12")
    await world.reconcile()
    before = world.function()
    world.registry.deploy(replace(to_prepare(before, "r2", before), layer=next_one))
    await world.reconciler.survey()
    assert world.layers.needed == {own.hash, next_one.hash, BASE.hash, base_layer("python3.12", LINUX).hash}
    await world.registry.delete("photo")
    await world.reconciler.survey()
    assert world.layers.needed == {BASE.hash, base_layer("python3.12", LINUX).hash}


async def test_disabling_a_key_disables_its_user(world):
    function = world.deploy()
    world.keys.principals[function.access_key] = Principal(function.access_key, "secret", "photo", enabled=False)
    await world.reconcile()
    assert world.store.disabled == {function.access_key}
    assert world.reconciler.functions_of_key(function.access_key) == ["photo"]


async def test_code_of_an_older_revision_that_still_runs_is_not_swept(world):
    world.deploy()
    await world.reconcile()
    before = world.function()
    world.registry.deploy(replace(to_prepare(before, "r2", before), code_sha256="new"))
    await world.reconciler.survey()
    assert world.code.swept[-1] == {"code-of-photo", "new"}
    await world.reconcile()
    await world.reconciler.survey()
    assert world.code.swept[-1] == {"new"}


# --- what runs while a change is prepared, or was refused -------------------------------------------------------------


async def update(world, **changes):
    """An active function with UPLOADS, changed."""
    world.deploy(bindings=(UPLOADS,), statements=(Statement(("s3:GetObject",), ("arn:aws:s3:::photos/*",)),))
    await world.reconcile()
    before = world.function()
    world.registry.deploy(replace(to_prepare(before, "r2", before), **changes))


async def test_a_bucket_announces_to_what_runs_while_a_change_of_its_events_waits(world):
    scans = replace(UPLOADS, bucket="scans")
    await update(world, bindings=(scans,), layer=layer_of("six", "python3.11", LINUX))
    assert await world.reconcile() == LAYER_POLL_MS
    world.deploy("other", bindings=(replace(UPLOADS, prefix="in/"),))
    await world.reconcile("other")
    assert UPLOADS in world.store.announced["photos"]


async def test_a_bucket_announces_to_what_runs_after_a_change_of_its_events_was_refused(world):
    await update(world, bindings=(), code_sha256="evil")
    world.code.refused.add("evil")
    await world.reconcile()
    assert await world.reconcile() is None
    assert world.store.announced == {"photos": {UPLOADS}}
    await Reconciler(world.parts).survey()
    assert world.store.announced == {"photos": {UPLOADS}}


async def test_a_bucket_falls_silent_once_a_change_of_its_events_is_active(world):
    await update(world, bindings=())
    await world.reconcile()
    assert await world.reconcile() is None
    assert world.store.announced == {"photos": set()}


async def test_what_runs_gets_back_what_it_lost_after_its_change_was_refused(world):
    await update(world, code_sha256="evil", statements=())
    world.code.refused.add("evil")
    await world.reconcile()
    before = (dict(world.store.policies), world.function())
    world.code.unpacked.clear()
    world.store.policies.clear()
    world.store.announced.clear()
    assert await Reconciler(world.parts).reconcile("photo") is None
    assert world.code.unpacked == {"code-of-photo"}
    assert world.store.announced == {"photos": {UPLOADS}}
    assert (world.store.policies, world.function()) == before


async def test_code_of_what_runs_that_is_lost_for_good_is_no_reason_to_try_again(world):
    await update(world, code_sha256="evil")
    world.code.refused |= {"evil", "code-of-photo"}
    await world.reconcile()
    assert await world.reconcile() is None


# --- records that cannot be read --------------------------------------------------------------------------------------


async def left_behind(world):
    """What a deleted function left at the store, beside one that announces and cannot be read any more."""
    world.deploy(bindings=(UPLOADS,))
    await world.reconcile()
    world.store.policies[StoreUser("gone", "OKIAGONE")] = {}
    world.store.announced["old"] = {replace(UPLOADS, bucket="old")}
    world.registry.damaged.add("photo")


async def test_nothing_is_removed_while_a_record_cannot_be_read(world):
    await left_behind(world)
    before = (dict(world.store.policies), dict(world.store.announced), len(world.code.swept))
    after_a_start = Reconciler(world.parts)
    assert await after_a_start.survey() == set()
    assert await after_a_start.reconcile("gone") is None
    assert (world.store.policies, world.store.announced, len(world.code.swept)) == before


async def test_what_was_left_is_removed_once_every_record_can_be_read(world):
    await left_behind(world)
    after_a_start = Reconciler(world.parts)
    await after_a_start.survey()
    world.registry.damaged.clear()
    assert await after_a_start.survey() == {"photo"}
    assert [user.function for user in world.store.policies] == ["photo"]
    assert world.store.announced == {"photos": {UPLOADS}, "old": set()}
    assert world.code.swept[-1] == {"code-of-photo"}


async def test_other_functions_are_prepared_beside_a_record_that_cannot_be_read(world):
    await left_behind(world)
    other = replace(UPLOADS, prefix="in/")
    world.deploy("other", bindings=(other,))
    after_a_start = Reconciler(world.parts)
    assert await after_a_start.reconcile("other") is None
    assert world.function("other").state is State.ACTIVE
    assert world.store.announced["photos"] == {UPLOADS, other}


async def test_a_record_that_became_unreadable_since_the_survey_protects_what_is_its_own(world):
    await world.reconciler.survey()
    await left_behind(world)
    with pytest.raises(PlatformError):
        await world.reconcile()
    await world.reconcile("gone")
    assert StoreUser("gone", "OKIAGONE") in world.store.policies
