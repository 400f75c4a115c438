import pytest

from okiba.adapters.redis_conditions import Condition
from okiba.apps.gateway.overview import shown, summed

NOW_MS = 1_000_000


@pytest.mark.parametrize(
    ("part", "seconds_ago"), [("controller", 30), ("minio", 30), ("jobs", 45), ("of a later release", 45)]
)
def test_a_condition_is_told_for_three_of_its_writers_periods(part, seconds_ago):
    conditions = {part: Condition(True, "", NOW_MS - seconds_ago * 1000)}
    assert shown(conditions, NOW_MS) == {part: {"ok": True, "message": "", "seconds_ago": seconds_ago}}
    (later,) = shown(conditions, NOW_MS + 1000).values()
    silent = seconds_ago + 1
    assert later == {"ok": False, "message": f"silent for {silent} s", "seconds_ago": silent}


def test_what_is_wrong_is_told_as_it_was_said():
    told = shown({"minio": Condition(False, "MinIO does not answer", NOW_MS + 400)}, NOW_MS)
    assert told == {"minio": {"ok": False, "message": "MinIO does not answer", "seconds_ago": 0}}


def test_what_several_gateways_have_is_added_up():
    told = summed([{"f": {"idle": 1, "busy": 2}}, {"f": {"idle": 3}, "g": {"busy": 1}}])
    assert told == {"f": {"idle": 4, "busy": 2}, "g": {"busy": 1}}
