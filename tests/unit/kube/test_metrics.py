from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from okiba.apps.kube.metrics import ControllerMetrics
from okiba.apps.kube.pod import SlotState

DOCUMENT = Path(__file__).parents[3] / "controller/docs/metrics.md"
LINK = SimpleNamespace(healthy=True)


class Keeper:
    """A fleet of two pods."""

    def pods(self) -> int:
        return 2

    def slots_by_pool(self):
        return {("python3.11/128", SlotState.WARM): 3, ("python3.11/128", SlotState.TAKEN): 1}

    def trouble(self) -> str:
        return "the quota is used up"


def test_the_leader_shows_its_fleet():
    metrics = ControllerMetrics(LINK)
    metrics.keeper = Keeper()

    assert metrics.registry.get_sample_value("okiba_controller_leading") == 1
    assert metrics.registry.get_sample_value("okiba_fleet_pods") == 2
    assert metrics.registry.get_sample_value("okiba_fleet_trouble") == 1
    warm = {"kind": "python3.11/128", "state": "warm"}
    assert metrics.registry.get_sample_value("okiba_fleet_slots", warm) == 3


def test_one_that_waits_to_lead_shows_no_fleet():
    page = ControllerMetrics(LINK).page().decode()

    assert "okiba_controller_leading 0.0" in page
    assert "okiba_fleet_pods 0" not in page


def test_every_metric_of_the_controller_has_its_line():
    for family in ControllerMetrics(LINK).registry.collect():
        assert f"| `{family.name}` |" in DOCUMENT.read_text(), family.name
