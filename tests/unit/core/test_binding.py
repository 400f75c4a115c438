"""Which events concern which function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from okiba.core.binding import Binding, concerns, made

UPLOADED = Binding("Uploaded", "photos", ("s3:ObjectCreated:*",))


@pytest.mark.parametrize("name", ["ObjectCreated:Put", "s3:ObjectCreated:CompleteMultipartUpload"])
def test_every_way_of_creating_concerns_a_binding_to_all(name):
    assert concerns(UPLOADED, "photos", "a.jpg", name)


@pytest.mark.parametrize(
    ("bucket", "name"),
    [("thumbnails", "ObjectCreated:Put"), ("photos", "ObjectRemoved:Delete"), ("photos", "ObjectCreatedBy:Put")],
)
def test_other_buckets_and_kinds_do_not_concern_it(bucket, name):
    assert not concerns(UPLOADED, bucket, "a.jpg", name)


def test_one_kind_does_not_include_its_sisters():
    binding = Binding("Put", "photos", ("s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete"))

    assert concerns(binding, "photos", "a.jpg", "ObjectCreated:Put")
    assert concerns(binding, "photos", "a.jpg", "ObjectRemoved:Delete")
    assert not concerns(binding, "photos", "a.jpg", "ObjectCreated:Copy")


@pytest.mark.parametrize(
    ("key", "is_concerned"),
    [
        ("in/a.jpg", True),
        ("in/.jpg", True),
        ("in/a b+ü.jpg", True),
        ("in/a\n.jpg", True),
        ("IN/a.jpg", False),
        ("in/a.JPG", False),
        ("in/a.jpg ", False),
        ("other/in/a.jpg", False),
    ],
)
def test_prefix_and_suffix_are_compared_with_the_key_as_it_is(key, is_concerned):
    binding = Binding("Uploaded", "photos", ("s3:ObjectCreated:*",), prefix="in/", suffix=".jpg")

    assert concerns(binding, "photos", key, "ObjectCreated:Put") is is_concerned


@pytest.mark.parametrize("wildcard", ["*", "?", "[i]n/"])
def test_wildcards_in_prefix_and_suffix_mean_themselves(wildcard):
    binding = Binding("Uploaded", "photos", ("s3:ObjectCreated:*",), prefix=wildcard, suffix=wildcard)

    assert not concerns(binding, "photos", "in/a.jpg", "ObjectCreated:Put")
    assert concerns(binding, "photos", f"{wildcard} {wildcard}", "ObjectCreated:Put")


def test_prefix_and_suffix_may_overlap_in_the_key():
    binding = Binding("Uploaded", "photos", ("s3:ObjectCreated:*",), prefix="ab", suffix="b")

    assert concerns(binding, "photos", "ab", "ObjectCreated:Put")


def test_a_binding_keeps_its_age_for_as_long_as_it_is_the_same():
    first = made(
        [Binding("A", "photos", ("s3:ObjectCreated:*",)), Binding("B", "photos", ("s3:ObjectCreated:*",))], (), 5
    )
    again = made([replace(first[0], since_ms=0), replace(first[1], since_ms=0, prefix="in/")], first, 9)
    assert [binding.since_ms for binding in (*first, *again)] == [5, 5, 5, 9]


def test_a_binding_of_unknown_age_is_as_old_as_its_next_deployment():
    (binding,) = made([Binding("A", "photos", ())], [Binding("A", "photos", ())], 9)
    assert binding.since_ms == 9
