"""What does not fit is refused before anything is installed, and the message names the value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import refusal

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a slip": ({"gateways": {"replicas": 2}}, "gateways"),
    "a name with a slip, further down": ({"gateway": {"replica": 2}}, "replica"),
    "no replica": ({"gateway": {"replicas": 0}}, "gateway/replicas"),
    "a number as text": ({"controller": {"replicas": "2"}}, "controller/replicas"),
    "an unknown log level": ({"platform": {"logLevel": "verbose"}}, "platform/logLevel"),
    "an account of eleven digits": ({"platform": {"accountId": "12345678901"}}, "platform/accountId"),
    "an image name with a scheme": ({"image": {"registry": "https://registry.example.org"}}, "image/registry"),
    "a short digest": ({"image": {"digest": "sha256:abc"}}, "image/digest"),
    "an image name in capitals": ({"slots": {"image": {"repository": "Okiba"}}}, "slots/image/repository"),
    "an unknown pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy"),
    "an address that is no range": ({"egress": {"allow": ["10.0.0.1"]}}, "egress/allow/0"),
    "a port out of range": ({"networkPolicy": {"redisPorts": [70_000]}}, "networkPolicy/redisPorts/0"),
    "an empty peer, which would be anyone": ({"networkPolicy": {"adminFrom": [{}]}}, "networkPolicy/adminFrom/0"),
    "a Redis by HTTP": ({"redis": {"external": {"url": "http://redis:6379"}}}, "redis/external/url"),
    "kombu's way to name Sentinels": ({"redis": {"external": {"url": "sentinel://r:26379"}}}, "redis/external/url"),
    "a cluster as a broker": (
        {"redis": {"external": {"brokerUrl": "redis+cluster://r:6379"}}},
        "redis/external/brokerUrl",
    ),
    "a cluster without a broker beside it": (
        {"redis": {"external": {"url": "redis+cluster://r:6379"}}},
        "redis.external.brokerUrl",
    ),
    "a Python that is none": ({"slots": {"pythons": ["python3.12"]}}, "slots/pythons"),
    "a wait that is all of the grace": ({"gateway": {"drainSeconds": 45}}, "gateway.drainSeconds"),
    "a store without a scheme": ({"s3": {"external": {"endpoint": "minio:9000"}}}, "s3/external/endpoint"),
    "a key file's name for a bundle": ({"ca": {"bundle": "/etc/ssl/ca.crt"}}, "ca/bundle"),
    "a namespace with a dot": ({"functions": {"namespace": "a.b"}}, "functions/namespace"),
    "a size without a unit": ({"jobs": {"scratchSize": "4"}}, "jobs/scratchSize"),
    "an unknown service type": ({"gateway": {"service": {"type": "ExternalName"}}}, "gateway/service/type"),
    "a host with a scheme": ({"gateway": {"ingress": {"host": "https://a.example.org"}}}, "gateway/ingress/host"),
    "a variable with a space": ({"jobs": {"extraEnv": {"PIP INDEX": "x"}}}, "jobs/extraEnv"),
    "no way to sync": ({"redis": {"bundled": {"appendfsync": "no"}}}, "redis/bundled/appendfsync"),
    "functions beside the platform": ({"functions": {"namespace": "okiba-chart-test"}}, "functions.namespace"),
    "no Redis at all": ({"redis": {"bundled": {"enabled": False}}}, "redis.bundled.enabled"),
    "a store without its keys": ({"s3": {"external": {"endpoint": "https://s3"}}}, "s3.external.accessKey"),
    "the metadata address as allowed": ({"egress": {"allow": ["169.254.169.254/32"]}}, "egress.allow"),
    "two lists of authorities": (
        {"ca": {"bundle": "-----BEGIN CERTIFICATE-----", "existingConfigMap": "trust"}},
        "ca.existingConfigMap",
    ),
    "a setting that is another value's": ({"platform": {"settings": {"Fleet": "local"}}}, "platform/settings"),
}


@pytest.mark.parametrize(("values", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    assert named in refusal(values)
