from __future__ import annotations

import asyncio

import pytest

from okiba.adapters.kube_api import HistoryGone
from okiba.adapters.kube_watch import Change, Listing, Watch
from okiba.core.errors import ClusterUnavailable


def pod(name: str, version: str):
    return {"metadata": {"name": name, "resourceVersion": version}}


class Script:
    """A collection whose lists and watches come from a script; after it, watches are quiet."""

    def __init__(self, lists, watches) -> None:
        self.lists, self.watches = list(lists), list(watches)
        self.asked: list[str] = []

    def lister(self):
        step = self.lists.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def watcher(self, version):
        self.asked.append(version)
        for step in self.watches.pop(0) if self.watches else []:
            if isinstance(step, Exception):
                raise step
            yield step


async def heard(script: Script, count: int):
    news = []
    async with asyncio.timeout(10):
        async for each in Watch("pods", script.lister, script.watcher).follow():
            news.append(each)
            if len(news) == count:
                break
    return news


def event(kind, name, version):
    return {"type": kind, "object": pod(name, version)}


async def test_a_listing_comes_first_and_changes_after_it():
    script = Script([([pod("a", "1")], "5")], [[event("MODIFIED", "a", "6"), event("DELETED", "a", "7")]])
    first, second, third = await heard(script, 3)
    assert isinstance(first, Listing)
    assert [each["metadata"]["name"] for each in first.objects] == ["a"]
    assert second == Change(pod("a", "6"), gone=False)
    assert third == Change(pod("a", "7"), gone=True)


async def test_a_watch_that_ends_goes_on_where_it_was_bookmarks_included():
    script = Script([([], "5")], [[event("BOOKMARK", "", "9")], [event("ADDED", "b", "10")]])
    _, added = await heard(script, 2)
    assert added == Change(pod("b", "10"), gone=False)
    assert script.asked[:2] == ["5", "9"]


async def test_when_history_is_gone_everything_is_listed_anew():
    script = Script([([], "5"), ([pod("a", "20")], "20")], [[HistoryGone("too old")]])
    _, second = await heard(script, 2)
    assert isinstance(second, Listing)
    assert second.objects == [pod("a", "20")]


@pytest.mark.parametrize("after_s", [0.0, 0.5], ids=["of its own accord", "as long as it was asked to"])
async def test_a_server_that_is_away_is_asked_again_after_a_pause(after_s):
    script = Script([ClusterUnavailable("429", after_s), ([], "5")], [])
    loop = asyncio.get_running_loop()
    begun = loop.time()
    (first,) = await heard(script, 1)
    assert isinstance(first, Listing)
    assert loop.time() - begun >= max(0.1, after_s * 0.75)
