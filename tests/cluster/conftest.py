"""A cluster for the tests here."""

from tests.cluster.fixtures import cluster, namespace, own_cluster

__all__ = ["cluster", "namespace", "own_cluster"]
