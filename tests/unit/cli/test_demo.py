"""The demo's timeline: every moment that was measured, in its order."""

from __future__ import annotations

from okiba.apps.demo import Thumbnail, Upload, timeline

UPLOAD = Upload(begun_ms=980.0, returned_ms=1000.0)
THUMBNAIL = Thumbnail("s3://thumbnails/photo/web.jpg", 1090.0, 46_270, 480, 320)
RAN = {
    "cold": True, "accepted_ms": 999.0, "slot_ready_ms": 1010.5, "started_ms": 1012.0, "finished_ms": 1100.0,
    "duration_us": 88_000,
}  # fmt: skip


def test_the_timeline_counts_from_when_the_put_returned() -> None:
    lines = timeline(UPLOAD, RAN, [THUMBNAIL]).splitlines()[2:]
    assert [line.split(" ms  ", 1) for line in lines] == [
        ["     -20.0", "PUT begins"],
        ["      -1.0", "event received by Okiba"],
        ["      +0.0", "PUT returned, after 20.0 ms"],
        ["     +10.5", "slot ready: from zero, made this function's in 11.5 ms"],
        ["     +12.0", "handler running"],
        ["     +90.0", "stored s3://thumbnails/photo/web.jpg (480x320 pixels, 46,270 bytes)"],
        ["    +100.0", "handler done, after 88.0 ms"],
    ]


def test_a_slot_that_was_still_there_is_not_called_new() -> None:
    assert "slot ready: still there from an earlier event" in timeline(UPLOAD, {**RAN, "cold": False}, [])
