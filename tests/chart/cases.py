"""Sets of values, each as somebody would have them; between them they set every value that the chart documents."""

from __future__ import annotations

from typing import Any

DIGEST = "sha256:" + "0123456789abcdef" * 4
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

PLACE: dict[str, Any] = {
    "podAnnotations": {"example.org/team": "platform"},
    "podLabels": {"example.org/tier": "control"},
    "nodeSelector": {"example.org/pool": "control"},
    "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]
            }
        }
    },
    "priorityClassName": "system-cluster-critical",
    "extraEnv": {"OKIBA_LOG_LEVEL": "debug"},
    "resources": {"requests": {"cpu": 1, "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1500Mi"}},
}
SPREAD: list[dict[str, Any]] = [
    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
]
STORE_KEYS = {"accessKey": "root", "secretKey": "not-a-secret"}
OFFICE = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]

CASES: dict[str, dict[str, Any]] = {
    "everything bundled": {},
    "one replica of each, nothing persistent": {
        "gateway": {"replicas": 1},
        "controller": {"replicas": 1},
        "redis": {"bundled": {"persistence": {"enabled": False}}},
        "s3": {"bundled": {"persistence": {"enabled": False}}},
    },
    "bundled servers as somebody likes them": {
        "redis": {
            "bundled": {
                "image": {"repository": "valkey/valkey", "tag": "9.0"},
                "appendfsync": "everysec",
                "persistence": {"size": "1Gi", "storageClassName": "fast"},
                "resources": {"requests": {"cpu": "1", "memory": "3Gi"}, "limits": {"memory": "3Gi"}},
            }
        },
        "s3": {
            "bundled": {
                "image": {"repository": "minio/minio", "tag": "RELEASE.2025-09-07T16-13-09Z"},
                "persistence": {"size": "1Ti", "storageClassName": "slow"},
                "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
            }
        },
    },
    "external servers by name": {
        "redis": {"external": {"url": "redis://okiba:pass@redis.example.org:6380/0", "brokerUrl": "redis://b:6379/1"}},
        "s3": {
            "external": {"endpoint": "https://minio.example.org:9000", **STORE_KEYS},
            "functionEndpoint": "https://s3.example.org",
        },
        "networkPolicy": {
            "redis": OFFICE,
            "redisPorts": [6380],
            "s3": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "minio"}}}],
            "s3Ports": [9000],
            "adminFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "minio"}}}],
        },
    },
    "external servers anywhere, a cluster, and Sentinels for the broker": {
        "redis": {
            "external": {
                "url": "rediss+cluster://okiba:pass@a:6379,b:6379",
                "brokerUrl": "redis+sentinel://:pass@a:26379,b:26379/main/1",
            }
        },
        "s3": {"external": {"endpoint": "http://192.0.2.7:9000", **STORE_KEYS}},
        "networkPolicy": {"redisPorts": [6379, 16379, 26379], "s3Ports": [9000]},
    },
    "secrets of somebody's own, Redis by its URL in there": {
        "credentials": {"existingSecret": "okiba-own"},
        "redis": {"bundled": {"enabled": False}},
        "s3": {"external": {"endpoint": "https://minio.example.org"}},
    },
    "gone without a trace": {"credentials": {"keep": False}, "functions": {"keepNamespace": False}},
    "a mirror, with digests and pull secrets": {
        "image": {
            "registry": "registry.example.org:5000/okiba",
            "repository": "control",
            "digest": DIGEST,
            "pullPolicy": "Always",
            "pullSecrets": ["mirror"],
        },
        "slots": {
            "image": {
                "registry": "slots.example.org",
                "repository": "slot",
                "digests": {"3.11": DIGEST},
                "pullPolicy": "Never",
            }
        },
    },
    "tags": {"image": {"tag": "edge"}, "slots": {"image": {"tag": "edge-py{python}"}, "pythons": ["3.11", "3.12"]}},
    "another site": {
        "platform": {
            "region": "eu-central-1",
            "accountId": "123456789012",
            "logLevel": "warning",
            "settings": {"default_concurrency": 500},
        },
        "clusterDomain": "site.example",
        "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3129", "noProxy": "intra.example.org"},
        "ca": {"bundle": CERTIFICATE},
        "helmTest": {"runtime": "python3.12"},
    },
    "certificate authorities that something else distributes": {"ca": {"existingConfigMap": "site-trust"}},
    "control plane placed and sized": {
        "gateway": {
            **PLACE,
            "replicas": 4,
            "scratchSize": "5Gi",
            "drainSeconds": 10,
            "terminationGracePeriodSeconds": 900,
            "minAvailable": "50%",
            "topologySpreadConstraints": SPREAD,
        },
        "controller": {
            **PLACE,
            "replicas": 3,
            "scratchSize": "1Gi",
            "terminationGracePeriodSeconds": 30,
            "minAvailable": 2,
            "topologySpreadConstraints": SPREAD,
        },
        "jobs": {
            **PLACE,
            "replicas": 3,
            "scratchSize": "9Gi",
            "terminationGracePeriodSeconds": 60,
            "topologySpreadConstraints": SPREAD,
        },
        "beat": PLACE,
    },
    "slots placed and isolated": {
        "functions": {
            "namespace": "okiba-chart-others",
            "createNamespace": False,
            "resourceQuota": {"pods": "100", "limits.memory": "64Gi"},
        },
        "slots": {
            "runtimeClassName": "gvisor",
            "priorityClassName": "functions",
            "nodeSelector": {"example.org/pool": "functions"},
            "tolerations": PLACE["tolerations"],
            "affinity": PLACE["affinity"],
            "topologySpreadConstraints": SPREAD,
        },
    },
    "a pinned Pod Security version": {"functions": {"podSecurityVersion": "v1.34"}},
    "a load balancer": {
        "gateway": {
            "service": {
                "type": "LoadBalancer",
                "port": 80,
                "annotations": {"example.org/lb": "internal"},
                "sourceRanges": ["192.0.2.0/24"],
            }
        }
    },
    "a node port": {"gateway": {"service": {"type": "NodePort", "nodePort": 30466}}},
    "an Ingress with TLS": {
        "gateway": {
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "functions.example.org",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "100m"},
                "tlsSecret": "functions-tls",
            }
        },
        "networkPolicy": {"publicFrom": [{"namespaceSelector": {}}]},
    },
    "a route of the Gateway API": {
        "gateway": {
            "httpRoute": {
                "enabled": True,
                "parentRefs": [{"name": "public", "namespace": "infra"}],
                "hostnames": ["functions.example.org"],
            }
        }
    },
    "a narrow network": {
        "egress": {"allow": ["0.0.0.0/0", "10.20.0.0/16"], "deny": ["10.0.0.0/8", "10.20.30.0/24"], "ports": [443]},
        "networkPolicy": {
            "dns": [{"ipBlock": {"cidr": "169.254.20.10/32"}}],
            "apiServer": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
            "apiServerPorts": [8443],
            "packages": OFFICE,
            "packagesPorts": [443, 3128],
        },
    },
    "no walls": {"networkPolicy": {"enabled": False}, "admissionPolicy": {"enabled": False}},
    "watched by Prometheus": {
        "metrics": {"serviceMonitor": {"enabled": True, "interval": "10s", "labels": {"release": "prometheus"}}}
    },
}
