"""Bucket events: reading, identity, AWS's record."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from urllib.parse import quote_plus, unquote_plus
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.event import MAX_KEY_BYTES, Event, event_id, modified_ms, payload, read_notification, record, request_id

SEQUENCER = 0x18EA6BFDFFB42095

# As measured with MinIO's build of February 2026.
MINIO = {
    "EventName": "s3:ObjectCreated:Put",
    "Key": "photos/a b+ü/%x\ny.jpg",
    "Records": [
        {
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "awsRegion": "",
            "eventTime": "2026-11-22T16:49:00.123Z",
            "eventName": "s3:ObjectCreated:Put",
            "userIdentity": {"principalId": "AKIAWRITER"},
            "requestParameters": {
                "principalId": "AKIAWRITER",
                "region": "",
                "sourceIPAddress": "127.0.0.1",
            },
            "responseElements": {
                "x-amz-id-2": "dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8",
                "x-amz-request-id": "18799E7F2B1C8A5D",
                "x-minio-deployment-id": "a6a4f0d9-1e7b-4f0e-8f0a-0d9b2b8e1d11",
                "x-minio-origin-endpoint": "http://127.0.0.1:9000",
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "Config",
                "bucket": {
                    "name": "photos",
                    "ownerIdentity": {"principalId": "AKIAWRITER"},
                    "arn": "arn:aws:s3:::photos",
                },
                "object": {
                    "key": "a+b%2B%C3%BC%2F%25x%0Ay.jpg",
                    "size": 200_000,
                    "eTag": "9a0364b9e99bb480dd25e1f0284c8555",
                    "contentType": "image/jpeg",
                    "userMetadata": {"content-type": "image/jpeg"},
                    "sequencer": "18EA6BFDFFB42095",
                },
            },
            "source": {"host": "127.0.0.1", "port": "", "userAgent": "MinIO (linux; amd64) minio-py/7.2.20"},
        }
    ],
}


def told(**changes: object) -> bytes:
    """MinIO's notification with values changed, by path with `__` between the names."""
    document = deepcopy(MINIO)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = document["Records"][0]
        for parent in parents:
            place = place[parent]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return json.dumps(document).encode()


def event(**changes: object) -> Event:
    (only,) = read_notification(told(**changes)).events
    return only


def test_minios_notification_becomes_exactly_awss_record():
    assert record(event(), "Uploaded", "eu-central-1") == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-11-22T16:49:00.123Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AKIAWRITER"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {
            "x-amz-request-id": "18799E7F2B1C8A5D",
            "x-amz-id-2": "dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Uploaded",
            "bucket": {
                "name": "photos",
                "ownerIdentity": {"principalId": "AKIAWRITER"},
                "arn": "arn:aws:s3:::photos",
            },
            "object": {
                "key": "a+b%2B%C3%BC/%25x%0Ay.jpg",
                "size": 200_000,
                "eTag": "9a0364b9e99bb480dd25e1f0284c8555",
                "sequencer": "18EA6BFDFFB42095",
            },
        },
    }


def test_awss_own_record_comes_out_as_it_went_in():
    awss = record(event(awsRegion="us-west-2", s3__object__versionId="v1"), "tf-s3-lambda", "")

    (again,) = read_notification(json.dumps({"Records": [awss]}).encode()).events

    assert record(again, "tf-s3-lambda", "us-east-1") == awss
    assert awss["awsRegion"] == "us-west-2"


def test_a_handler_gets_one_record():
    document = json.loads(payload(event(), "Uploaded", "us-east-1"))

    assert document == {"Records": [record(event(), "Uploaded", "us-east-1")]}


# --- keys -------------------------------------------------------------------------------------------------------------


def valid_keys() -> st.SearchStrategy[str]:
    awkward = st.sampled_from(["+", "%", "%2F", "%2B", "/", " ", "\n", "\r", "\t", "&", "#", "?", "ü", "é", "🎉", "."])
    anything = st.characters(exclude_categories=["Cs"])
    texts = st.lists(awkward | anything, min_size=1, max_size=300).map("".join)
    return texts.filter(lambda key: 0 < len(key.encode()) <= MAX_KEY_BYTES)


@given(valid_keys())
def test_a_handler_sees_exactly_the_key_that_was_put(key):
    for escaped in (quote_plus(key), quote_plus(key, safe="/")):  # MinIO's way, and AWS's
        seen = event(s3__object__key=escaped)
        handed = json.loads(payload(seen, "Uploaded", "us-east-1"))["Records"][0]["s3"]["object"]["key"]

        assert seen.key == key
        assert unquote_plus(handed) == key


@pytest.mark.parametrize("key", ["k" * 1024, "ü" * 512, "%" * 1024, "\n" * 1024])
def test_a_key_may_have_1024_bytes(key):
    assert event(s3__object__key=quote_plus(key)).key == key


@pytest.mark.parametrize("key", ["k" * 1025, "ü" * 513, "k" * 65_536, "%6B" * 1025])
def test_a_longer_key_is_a_fault(key):
    notification = read_notification(told(s3__object__key=key))

    assert notification.events == ()
    assert "allowed are" in notification.faults[0]


# --- what differs by kind ---------------------------------------------------------------------------------------------


def handed(**changes: object) -> dict[str, object]:
    return record(event(**changes), "Uploaded", "us-east-1")["s3"]["object"]


def test_an_object_removed_has_neither_size_nor_etag():
    removed = handed(eventName="s3:ObjectRemoved:Delete", s3__object__versionId="v1")

    assert set(removed) == {"key", "versionId", "sequencer"}


def test_a_delete_marker_has_the_etag_of_nothing_and_a_version():
    marker = handed(eventName="s3:ObjectRemoved:DeleteMarkerCreated", s3__object__versionId="v2")

    assert (marker["eTag"], marker["versionId"]) == ("d41d8cd98f00b204e9800998ecf8427e", "v2")
    assert "size" not in marker


def test_an_empty_object_has_its_size_though_minio_leaves_it_out():
    assert handed(s3__object__size=None)["size"] == 0


@pytest.mark.parametrize("version", [None, "", "null"])
def test_a_version_id_is_absent_where_there_is_no_version(version):
    assert "versionId" not in handed(s3__object__versionId=version)


def test_quotes_around_an_etag_go():
    assert handed(s3__object__eTag='"abc"')["eTag"] == "abc"


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("ObjectCreated:CompleteMultipartUpload", "2.1"),
        ("ObjectRemoved:Delete", "2.1"),
        ("ObjectTagging:Put", "2.3"),
        ("ObjectRestore:Completed", "2.1"),
        ("ObjectRestore:Delete", "2.3"),
        ("Replication:OperationFailedReplication", "2.2"),
        ("ReducedRedundancyLostObject", "2.1"),
    ],
)
def test_records_have_the_version_of_their_kind(name, version):
    made = record(event(eventName=f"s3:{name}"), "Uploaded", "us-east-1")

    assert (made["eventName"], made["eventVersion"]) == (name, version)


@pytest.mark.parametrize(
    ("told_time", "handed_time"),
    [
        ("2026-11-22T16:49:00Z", "2026-11-22T16:49:00.000Z"),
        ("2026-11-22T16:49:00.1Z", "2026-11-22T16:49:00.100Z"),
        ("2026-11-22T16:49:00.123456789Z", "2026-11-22T16:49:00.123Z"),
        ("2026-11-22T16:49:00.5+00:00", "2026-11-22T16:49:00.500Z"),
    ],
)
def test_times_have_milliseconds(told_time, handed_time):
    assert event(eventTime=told_time).time == handed_time


# --- identity ---------------------------------------------------------------------------------------------------------


def test_an_event_has_one_id_whoever_tells_it():
    awss = {"Records": [record(event(), "Uploaded", "us-east-1")]}
    (again,) = read_notification(json.dumps(awss).encode()).events

    assert event_id(again) == event_id(event())
    assert event_id(event()) == event_id(event(userIdentity__principalId="SOMEONE", awsRegion="eu-west-1"))


def test_an_id_is_for_ever():
    assert event_id(event()) == "GXHdefYiBtzd15KJFLjbWQ"
    assert request_id("GXHdefYiBtzd15KJFLjbWQ", "thumbnails") == "0bcc8c0c-5dd5-4aa4-9409-39f8f16a6180"


@pytest.mark.parametrize(
    "change",
    [
        {"s3__bucket__name": "others"},
        {"s3__object__key": "b.jpg"},
        {"s3__object__sequencer": "18EA6BFDFFC362D5"},
        {"s3__object__eTag": "d41d8cd98f00b204e9800998ecf8427e"},
        {"s3__object__versionId": "v1"},
        {"eventName": "s3:ObjectRemoved:Delete"},
    ],
)
def test_another_event_has_another_id(change):
    assert event_id(event(**change)) != event_id(event())


def test_an_object_that_came_to_be_has_the_identity_that_a_listing_tells():
    listed = Event(
        bucket="photos",
        key=event().key,
        name="ObjectCreated:CompleteMultipartUpload",
        time="2026-11-22T16:49:00.121Z",
        sequencer=f"{SEQUENCER // 1_000_000 * 1_000_000:016X}",
        etag="9a0364b9e99bb480dd25e1f0284c8555",
    )

    assert modified_ms(event()) == modified_ms(listed) == SEQUENCER // 1_000_000
    assert event_id(listed) == event_id(event()) == event_id(event(eventName="s3:ObjectCreated:Copy"))


@pytest.mark.parametrize(
    "change",
    [
        {"s3__object__sequencer": "0055AED6DCD90281E5"},  # AWS's: no time
        {"s3__object__sequencer": "FFFFFFFFFFFFFFFF"},
        {"eventTime": "2024-11-22T16:49:00.123Z"},
        {"eventTime": "2026-02-30T16:49:00.123Z"},
    ],
)
def test_a_sequencer_that_is_no_time_is_the_identity_as_it_is(change):
    one, other = event(**change), event(**{**change, "eventName": "s3:ObjectCreated:Copy"})

    assert modified_ms(one) is None
    assert event_id(one) != event_id(other)


def test_two_taggings_of_one_object_in_a_versioned_bucket_are_two_events():
    changes = {"eventName": "s3:ObjectCreated:PutTagging", "s3__object__versionId": "v1"}

    assert event_id(event(**changes)) != event_id(event(**changes, eventTime="2026-11-22T16:49:01Z"))


def test_a_version_is_an_event_s_identity_whatever_the_sequencer_so_that_a_listing_can_tell_it():
    one = event(s3__object__versionId="v1", s3__object__sequencer="1")
    other = event(s3__object__versionId="v1", s3__object__sequencer=None)

    assert event_id(one) == event_id(other)


def test_two_taggings_of_one_version_are_two_events():
    changes = {"eventName": "s3:ObjectTagging:Put", "s3__object__versionId": "v1"}

    assert event_id(event(**changes)) != event_id(event(**changes, eventTime="2026-11-22T16:49:01Z"))


def test_without_version_and_sequencer_content_and_time_are_the_identity():
    bare = event(s3__object__sequencer=None)

    assert event_id(bare) == event_id(replace(bare))
    assert event_id(bare) != event_id(replace(bare, etag="other"))
    assert event_id(bare) != event_id(replace(bare, time="2026-11-22T16:49:00.124Z"))


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_bucket_and_key_do_not_run_into_each_other(one, other):
    ids = [event_id(replace(event(), bucket=bucket, key=key)) for bucket, key in (one, other)]

    assert (ids[0] == ids[1]) == (one == other)


def test_a_request_id_is_a_uuid_of_its_own_for_each_function():
    ids = {request_id(event_id(event()), function) for function in ("thumbnails", "index")}

    assert len(ids) == 2
    assert all(str(UUID(one)) == one and UUID(one).version == 4 for one in ids)


# --- hostile notifications --------------------------------------------------------------------------------------------


def test_a_test_event_says_nothing():
    body = b'{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-22T16:49:00.000Z","Bucket":"photos"}'

    assert read_notification(body) == read_notification(body)
    assert read_notification(body).events == ()
    assert read_notification(body).faults == ()


HOSTILE = {
    "nothing": b"",
    "no JSON": b"hello",
    "half of it": told()[:-1],
    "more after it": told() + b"}",
    "not UTF-8": b'{"Records":"\xff"}',
    "deep arrays": b'{"Records":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b'{"Records":[NaN]}',
    "infinity": b'{"Records":[-Infinity]}',
    "a number beyond all doubles": b'{"Records":[1e400]}',
    "a number of 5,000 digits": b'{"Records":[' + b"9" * 5_000 + b"]}",
    "a lone surrogate": b'{"Records":[{"eventName":"\\ud800"}]}',
    "an array": b"[]",
    "a string": b'"Records"',
    "null": b"null",
    "no Records": b"{}",
    "Records as an object": b'{"Records":{}}',
    "no record": b'{"Records":[]}',
    "a record that is a number": b'{"Records":[1]}',
    "a record that is null": b'{"Records":[null]}',
    "no name": told(eventName=None),
    "a name that is a list": told(eventName=["s3:ObjectCreated:Put"]),
    "a name with a newline": told(eventName="s3:ObjectCreated:Put\n"),
    "a name of 10,000 characters": told(eventName="a" * 10_000),
    "no time": told(eventTime=None),
    "a time that is none": told(eventTime="yesterday"),
    "a time that is a number": told(eventTime=1),
    "no bucket": told(s3__bucket=None),
    "an empty bucket": told(s3__bucket__name=""),
    "a bucket that is a number": told(s3__bucket__name=7),
    "no key": told(s3__object__key=None),
    "a key that is an object": told(s3__object__key={"a": 1}),
    "a key that is not UTF-8": told(s3__object__key="%FF"),
    "a key with a surrogate escaped": told(s3__object__key="%ED%A0%80"),
    "s3 as a string": told(s3="s3"),
    "a negative size": told(s3__object__size=-1),
    "a size that is true": told(s3__object__size=True),
    "a size that is text": told(s3__object__size="1"),
    "a size beyond 63 bits": told(s3__object__size=2**63),
    "a version that is a list": told(s3__object__versionId=[]),
    "a principal that is a number": told(userIdentity__principalId=1),
    "an identity that is text": told(userIdentity="me"),
    "an endless sequencer": told(s3__object__sequencer="F" * 100_000),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_notification_is_a_fault_and_nothing_else(body):
    notification = read_notification(body)

    assert notification.events == ()
    assert len(notification.faults) == 1
    assert 0 < len(notification.faults[0]) < 500


def test_one_bad_record_does_not_take_the_others_with_it():
    good = MINIO["Records"][0]
    body = json.dumps({"Records": [good, {"eventName": 1}, good, None]}).encode()

    notification = read_notification(body)

    assert notification.events == (event(), event())
    assert [fault.partition(":")[0] for fault in notification.faults] == ["Records[1]", "Records[3]"]


def test_what_a_store_does_not_know_may_be_absent():
    bare = {
        "eventTime": "2026-11-22T16:49:00Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "photos"}, "object": {"key": "a.jpg"}},
    }

    notification = read_notification(json.dumps({"Records": [bare]}).encode())

    assert notification.faults == ()
    assert notification.events == (
        Event(bucket="photos", key="a.jpg", name="ObjectCreated:Put", time="2026-11-22T16:49:00.000Z"),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
PATHS = ["eventName", "eventTime", "s3", "s3__bucket", "s3__object", "s3__object__key", "s3__object__size"]


@given(st.sampled_from(PATHS), json_values)
def test_no_value_in_any_place_raises(path, value):
    notification = read_notification(told(**{path: value}))

    for read in notification.events:
        payload(read, "Uploaded", "us-east-1")
        event_id(read)


@given(st.binary(max_size=200))
def test_no_bytes_raise(body):
    read_notification(body)
