"""Whether a store announces, judged from what MinIO 2025-10 really answers."""

import pytest

from okiba.core.announcing import Target, bucket, lanes, targets
from okiba.core.binding import Binding
from okiba.core.notification import Rule, wanted_rules

URL = "http://127.0.0.1:4567"
INFO = {
    "services": {
        "notifications": [
            {"webhook": [{"OKIBADIRECT": {"status": "online"}}, {"OKIBAQUEUED": {"status": "offline"}}]},
            {"kafka": [{"THEIRS": {"status": "online"}}]},
        ]
    }
}
BY_VARIABLES = """notify_webhook enable=off endpoint= auth_token= queue_limit=0 queue_dir= client_cert= client_key= \n\
# MINIO_NOTIFY_WEBHOOK_ENABLE_OKIBADIRECT=on
# MINIO_NOTIFY_WEBHOOK_ENDPOINT_OKIBADIRECT=http://127.0.0.1:4567/webhooks/s3/direct
notify_webhook:OKIBADIRECT \n\
# MINIO_NOTIFY_WEBHOOK_ENDPOINT_OKIBAQUEUED=http://127.0.0.1:4567/webhooks/s3/queued
# MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_OKIBAQUEUED=/var/q
notify_webhook:OKIBAQUEUED \n"""
BY_COMMAND = """notify_webhook:OKIBADIRECT endpoint=http://127.0.0.1:4567/webhooks/s3/direct queue_dir= \n\
notify_webhook:OKIBAQUEUED endpoint=http://127.0.0.1:4567/webhooks/s3/queued queue_limit=100000 queue_dir="/var/q" \n"""
DIRECT = Target(True, f"{URL}/webhooks/s3/direct")
QUEUED = Target(True, f"{URL}/webhooks/s3/queued", "/var/q")


@pytest.mark.parametrize("configuration", [BY_VARIABLES, BY_COMMAND], ids=["variables", "mc admin config set"])
def test_targets_are_known_however_they_were_set(configuration):
    assert targets(INFO, configuration) == {
        "OKIBADIRECT": DIRECT,
        "OKIBAQUEUED": Target(False, QUEUED.endpoint, "/var/q"),
    }


def test_a_store_that_says_nothing_has_no_targets():
    assert targets({}, "") == targets({"services": {"notifications": [{"kafka": None}]}}, "") == {}


def test_a_target_whose_address_is_not_told_is_judged_by_what_is():
    assert [lane.ok for lane in lanes({"OKIBADIRECT": Target(True), "OKIBAQUEUED": Target(True)}, URL)] == [True, True]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        pytest.param({"OKIBADIRECT": DIRECT}, "has no target OKIBAQUEUED", id="unknown"),
        pytest.param(
            {"OKIBADIRECT": DIRECT, "OKIBAQUEUED": Target(True, "http://other:1/x", "/var/q")},
            f"goes to http://other:1/x, not to {URL}/webhooks/s3/queued",
            id="another's address",
        ),
        pytest.param(
            {"OKIBADIRECT": DIRECT, "OKIBAQUEUED": Target(True, QUEUED.endpoint)}, "no queue_dir", id="no folder"
        ),
        pytest.param(
            {"OKIBADIRECT": DIRECT, "OKIBAQUEUED": Target(False, QUEUED.endpoint, "/var/q")},
            f"does not reach {URL}/webhooks/s3/queued",
            id="unreachable",
        ),
    ],
)
def test_of_a_lane_that_does_not_work_it_is_said_why(known, said):
    direct, queued = lanes(known, f"{URL}/")
    assert direct.ok
    assert not queued.ok
    assert said in queued.message


BINDING = Binding("Upload", "photos", ("s3:ObjectCreated:*",), suffix=".jpg")


def test_a_bucket_announces_when_its_rules_cover_what_functions_wait_for():
    exactly = wanted_rules("photos", [], [BINDING])
    more = wanted_rules("photos", [], [BINDING, Binding("Gone", "photos", ("s3:ObjectRemoved:*",))])
    assert bucket("photos", exactly, [BINDING]).ok
    assert bucket("photos", more, [BINDING]).ok


def test_a_bucket_without_a_lanes_rule_or_with_a_narrower_one_does_not_announce():
    theirs = Rule("theirs", "arn:minio:sqs::1:kafka", ("s3:ObjectCreated:*",))
    one_lane = wanted_rules("photos", [theirs], [BINDING])[:2]
    narrower = wanted_rules("photos", [], [Binding("Upload", "photos", ("s3:ObjectCreated:Put",), suffix=".jpg")])
    assert bucket("photos", [theirs], [BINDING]).message == "has no rule okiba-direct nor okiba-queued"
    assert bucket("photos", one_lane, [BINDING]).message == "has no rule okiba-queued"
    assert "narrower" in bucket("photos", narrower, [BINDING]).message
