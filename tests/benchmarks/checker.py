"""Counts effects in the output bucket, in a process of its own that knows nothing of Okiba but its S3 endpoint.

    python -m tests.benchmarks.checker BUCKET EXPECTED_FILE    → JSON {lost, duplicated, ghosts, seen} on stdout

The handler under test writes one object per execution, named KEY/REQUEST-ID-AND-TIME; so an effect that happened twice
is two objects. EXPECTED_FILE has a key a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import boto3


def verdict(expected: list[str], effects: list[str]) -> dict[str, object]:
    """What the effects say of the keys expected."""
    seen = Counter(name.rpartition("/")[0] for name in effects)
    wanted = set(expected)
    return {
        "lost": sorted(wanted - set(seen)),
        "duplicated": sorted(key for key, count in seen.items() if count > 1 and key in wanted),
        "ghosts": sorted(set(seen) - wanted),
        "seen": len(effects),
    }


def effects_in(bucket: str) -> list[str]:
    """Every object's name in the bucket."""
    pages = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"]).get_paginator("list_objects_v2")
    return [item["Key"] for page in pages.paginate(Bucket=bucket) for item in page.get("Contents", [])]


if __name__ == "__main__":
    print(json.dumps(verdict(Path(sys.argv[2]).read_text().splitlines(), effects_in(sys.argv[1]))))
