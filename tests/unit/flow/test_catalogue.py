"""What the gateway knows of functions and keys, and what it keeps when a record cannot be read."""

from dataclasses import replace

import pytest

from okiba.core.binding import Binding
from okiba.core.errors import PlatformError, StoreUnavailable
from okiba.core.function import Function, State, UpdateStatus, to_prepare
from okiba.flow.catalogue import Catalogue
from okiba.ports import Principal

OLD = Binding("Old", "photos", ("s3:ObjectCreated:*",), prefix="a/")
NEW = Binding("New", "photos", ("s3:ObjectCreated:*",), prefix="b/")
ACTIVE = Function("f", "python3.11", "app.handler", "old", 1, "r1", 0, "AK", state=State.ACTIVE, bindings=(OLD,))


class Records:
    """A registry and key store in memory; names in `broken` cannot be read."""

    def __init__(self, *functions):
        self.functions, self.broken, self.away = {function.name: function for function in functions}, set(), False

    async def get(self, name):
        if self.away:
            raise StoreUnavailable("away")
        if name in self.broken:
            raise PlatformError("damaged")
        return self.functions.get(name)

    async def all(self):
        return [function for name, function in self.functions.items() if name not in self.broken]


class Keys:
    """A key store in memory."""

    def __init__(self, *principals):
        self.principals = {principal.access_key: principal for principal in principals}

    async def all(self):
        return list(self.principals.values())

    async def get(self, access_key):
        return self.principals.get(access_key)


@pytest.fixture
async def world():
    records = Records(ACTIVE)
    catalogue = Catalogue(records, Keys())
    told = []
    catalogue.on_change = lambda name, function: told.append((name, function))
    await catalogue.load()
    return records, catalogue, told


def prefixes(catalogue):
    return [binding.prefix for function in catalogue.functions_of_bucket("photos") for binding in function.bindings]


async def test_a_record_that_cannot_be_read_leaves_what_was_known(world):
    records, catalogue, told = world
    records.broken.add("f")
    await catalogue.load()
    await catalogue.refresh("f")
    assert catalogue.invocable("f") == ACTIVE
    assert ("f", None) not in told


async def test_a_function_that_is_gone_is_gone(world):
    records, catalogue, told = world
    del records.functions["f"]
    await catalogue.load()
    assert catalogue.function("f") is None
    assert told[-1] == ("f", None)
    assert prefixes(catalogue) == []


async def test_while_the_store_is_away_nothing_changes(world):
    records, catalogue, _ = world
    records.away = True
    with pytest.raises(StoreUnavailable):
        await catalogue.refresh("f")
    assert catalogue.invocable("f") == ACTIVE


async def test_while_a_change_is_prepared_events_of_both_bindings_are_routed_and_the_old_code_runs(world):
    records, catalogue, _ = world
    records.functions["f"] = to_prepare(replace(ACTIVE, bindings=(NEW,), code_sha256="new"), "r2", ACTIVE)
    await catalogue.refresh("f")
    assert sorted(prefixes(catalogue)) == ["a/", "b/"]
    assert catalogue.invocable("f").code_sha256 == "old"


async def test_a_refused_change_leaves_events_as_they_were(world):
    records, catalogue, _ = world
    changed = to_prepare(replace(ACTIVE, bindings=(NEW,)), "r2", ACTIVE)
    records.functions["f"] = replace(changed, last_update=UpdateStatus.FAILED)
    await catalogue.refresh("f")
    assert prefixes(catalogue) == ["a/"]


async def test_events_for_a_function_that_is_not_ready_yet_are_routed_to_its_queue(world):
    records, catalogue, _ = world
    records.functions["f"] = replace(ACTIVE, state=State.PENDING)
    await catalogue.refresh("f")
    assert prefixes(catalogue) == ["a/"]
    assert catalogue.invocable("f") is None


async def test_nothing_is_kept_of_a_function_that_is_gone_nor_of_its_key():
    records, keys = Records(ACTIVE), Keys(Principal("AK", "secret", "f"))
    catalogue = Catalogue(records, keys)
    await catalogue.load()
    assert catalogue.principal_of_function(ACTIVE)
    records.functions.clear()
    keys.principals.clear()
    for what in ("f", "key:AK"):  # as the change stream tells
        await catalogue._apply(what)
    assert (list(catalogue.functions()), catalogue.functions_of_bucket("photos")) == ([], [])
    assert (catalogue.invocable("f"), catalogue.principal("AK")) == (None, None)
