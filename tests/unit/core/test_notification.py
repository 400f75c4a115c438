from pathlib import Path

import pytest

from okiba.core.binding import Binding
from okiba.core.notification import (
    KNOWN_EVENTS,
    LANES,
    Kind,
    Rule,
    as_bindings,
    minio_notify_environment,
    same_rules,
    wanted_rules,
)

CREATED, PUT, REMOVED = "s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectRemoved:*"
THEIRS = Rule("mine-alone", "arn:minio:sqs::ELSEWHERE:webhook", (CREATED,), prefix="logs/")


def binding(bucket="photos", events=(CREATED,), prefix="", suffix=""):
    return Binding("Upload", bucket, events, prefix, suffix)


def ours(rules):
    return [rule for rule in rules if rule.id.startswith("okiba-")]


def test_a_bucket_announces_over_both_lanes():
    rules = wanted_rules("photos", (), [binding()])
    assert [(rule.id, rule.arn) for rule in rules] == [
        ("okiba-direct", "arn:minio:sqs::OKIBADIRECT:webhook"),
        ("okiba-queued", "arn:minio:sqs::OKIBAQUEUED:webhook"),
    ]


def test_rules_of_others_stay_as_they_are():
    topic = Rule("", "arn:aws:sns:eu-west-1:1:topic", (REMOVED,), suffix="", kind=Kind.TOPIC)
    present = (THEIRS, Rule("okiba-direct", LANES["direct"], (REMOVED,)), topic)
    assert wanted_rules("photos", present, [binding()])[:2] == (THEIRS, topic)


def test_without_bindings_only_our_rules_go():
    present = (THEIRS, *wanted_rules("photos", (), [binding()]))
    assert wanted_rules("photos", present, [binding(bucket="other")]) == (THEIRS,)


def test_kinds_of_events_are_united_without_those_that_another_includes():
    bindings = [binding(events=(PUT, REMOVED)), binding(events=(CREATED,)), binding(events=(PUT,))]
    assert {rule.events for rule in ours(wanted_rules("photos", (), bindings))} == {(CREATED, REMOVED)}


@pytest.mark.parametrize(
    ("bindings", "prefix", "suffix"),
    [
        ([binding(prefix="in/", suffix=".jpg")], "in/", ".jpg"),
        ([binding(prefix="in/"), binding(prefix="in/", suffix=".jpg")], "in/", None),
        ([binding(prefix="in/"), binding(prefix="out/")], None, None),
        ([binding(prefix="in/"), binding()], None, None),
        ([binding(prefix="a.", suffix=".jpg")], "a.", None),
        ([binding(prefix="ab", suffix="ab")], "ab", None),
        ([binding(prefix="line\nbreak")], None, None),
        ([binding(prefix="x" * 1_025)], None, None),
        ([binding(prefix="Bilder für/", suffix=".ü")], "Bilder für/", ".ü"),
    ],
    ids=[
        "one binding's own",
        "what all share",
        "prefixes that differ",
        "one without a filter",
        "prefix and suffix that can overlap in a key",
        "prefix and suffix that are the same",
        "what XML would change",
        "what is too long",
        "not ASCII",
    ],
)
def test_the_filter_lets_through_whatever_any_binding_wants(bindings, prefix, suffix):
    assert {(rule.prefix, rule.suffix) for rule in ours(wanted_rules("photos", (), bindings))} == {(prefix, suffix)}


def test_a_binding_that_the_store_would_refuse_does_not_take_the_others_along():
    rules = wanted_rules("photos", (), [binding(events=("s3:Nonsense:*",)), binding(events=(CREATED,))])
    assert {rule.events for rule in ours(rules)} == {(CREATED,)}


def test_configurations_that_differ_in_order_alone_are_the_same():
    one = (THEIRS, Rule("okiba-direct", "arn:minio:sqs::OKIBADIRECT:webhook", (PUT, REMOVED)))
    other = (Rule("okiba-direct", "arn:minio:sqs:us-east-1:OKIBADIRECT:webhook", (REMOVED, PUT), prefix=""), THEIRS)
    assert same_rules(one, other)
    assert not same_rules(one, one[:1])


def test_every_kind_that_sam_templates_use_is_known():
    assert {CREATED, PUT, REMOVED, "s3:ObjectCreated:CompleteMultipartUpload", "s3:ObjectRemoved:Delete"} < KNOWN_EVENTS


def test_minio_learns_both_lanes_from_its_environment():
    assert minio_notify_environment("http://127.0.0.1:4567/", "secret", Path("/state/queue")) == {
        "MINIO_API_SYNC_EVENTS": "off",
        "MINIO_NOTIFY_WEBHOOK_ENABLE_OKIBADIRECT": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_OKIBADIRECT": "http://127.0.0.1:4567/webhooks/s3/direct",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_OKIBADIRECT": "secret",
        "MINIO_NOTIFY_WEBHOOK_ENABLE_OKIBAQUEUED": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_OKIBAQUEUED": "http://127.0.0.1:4567/webhooks/s3/queued",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_OKIBAQUEUED": "secret",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_OKIBAQUEUED": "/state/queue",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_LIMIT_OKIBAQUEUED": "100000",
    }


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("in/", ".jpg")])
def test_rules_as_bindings_ask_for_the_same_rules(prefix, suffix):
    rules = wanted_rules("photos", (THEIRS,), [binding(prefix=prefix, suffix=suffix)])
    assert same_rules(wanted_rules("photos", rules, as_bindings("photos", rules)), rules)
