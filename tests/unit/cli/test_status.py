"""What people read in `okiba status` and `okiba dlq list`, and what programs do."""

import json

from tests.unit.cli.stand_in import Answer

LAYER = "0123456789abcdef" * 4
STATUS = {
    "components": {"redis": {"ok": True, "message": "answers"}, "jobs": {"ok": False, "message": "silent for 50 s"}},
    "functions": [
        {"name": "thumbnails", "state": "Active", "queued": 2, "retrying": 2, "next_retry_ms": 1_700_000_060_000},
        {"name": "idle", "state": "Active", "queued": 0, "retrying": 0, "next_retry_ms": None},
    ],
    "warm_slots": {f"python3.11+{LAYER}": 1},
}


def test_people_read_yes_no_short_digests_and_a_time(server, okiba):
    server.answers["GET /okiba/v1/status"] = Answer(STATUS)
    page = okiba("status").stdout
    assert LAYER not in page
    assert "python3.11+0123456789ab " in page
    assert "True" not in page
    assert "False" not in page
    assert "  redis  yes  answers\n  jobs   no   silent for 50 s\n" in page
    assert "2023-11-14 22:14:20Z" in page


def test_programs_get_everything_as_it_is(server, okiba):
    server.answers["GET /okiba/v1/status"] = Answer(STATUS)
    assert json.loads(okiba("status", "--json").stdout) == {"running": True, **STATUS}


def test_events_that_wait_for_a_retry_are_told_where_dead_letters_are_looked_for(server, okiba):
    server.answers["GET /okiba/v1/status"] = Answer(STATUS)
    server.answers["GET /2015-03-31/functions"] = Answer(
        {"Functions": [{"FunctionName": "thumbnails"}, {"FunctionName": "idle"}]}
    )
    for name in ("thumbnails", "idle"):
        server.answers[f"GET /okiba/v1/functions/{name}/dead-letters"] = Answer({"dead_letters": []})
        server.answers[f"GET /okiba/v1/functions/{name}"] = Answer({"name": name})
    told = "No dead letters\nthumbnails: 2 events wait for a retry, the next at 2023-11-14 22:14:20Z\n"
    assert okiba("dlq", "list").stdout == told
    assert okiba("dlq", "list", "thumbnails").stdout == told
    assert okiba("dlq", "list", "idle").stdout == "No dead letters\n"
