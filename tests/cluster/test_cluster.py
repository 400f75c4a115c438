"""The suite's own cluster is a cluster: two nodes, names, logs; and its disasters are disasters."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.cluster import cluster as own
from tests.cluster.access import Cluster
from tests.cluster.disasters import end_container, frozen_node, no_api_server, unplugged_node
from tests.cluster.layout import NODES
from tests.cluster.pods import PORT, address, call, pod, run_pods, service
from tests.deadline import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> Iterator[str]:
    """A namespace with a pod and a Service on each node, named after it."""
    if not cluster.own:
        pytest.skip("stops parts of the cluster: for the suite's own only")
    nodes = [node.name for node in NODES]
    with cluster.fresh_namespace() as namespace:
        cluster.apply(*(service(node, namespace) for node in nodes))
        run_pods(cluster, *(pod(node, namespace, node) for node in nodes))
        yield namespace


def answers(host: str) -> bool:
    try:
        with urlopen(f"http://{host}:{PORT}", timeout=0.5) as page:
            return bool(page.read() == b"here")
    except (URLError, TimeoutError):
        return False


def test_pods_reach_each_other_by_name_across_nodes_and_themselves_through_their_service(cluster, pair):
    urls = [f"http://{node.name}.{pair}.svc.cluster.local" for node in NODES]
    assert [call(cluster, node.name, pair, *urls) for node in NODES] == [["here", "here"]] * 2


def test_logs_of_a_pod_on_the_second_node_are_read_through_its_kubelet(cluster, pair):
    call(cluster, "node1", pair, f"http://node2.{pair}")
    until(lambda: "GET / " in cluster.kubectl("logs", "node2", "--namespace", pair), "the call to be logged")


def test_a_frozen_node_answers_nothing_and_goes_on_where_it_was(cluster, pair):
    there = address(cluster, "node2", pair)
    assert answers(there)
    with frozen_node():
        assert not answers(there)
        assert answers(address(cluster, "node1", pair))
    until(lambda: answers(there), "the thawed node")


def test_an_unplugged_node_is_not_heard_until_it_is_plugged_in_again(cluster, pair):
    there = address(cluster, "node2", pair)
    with unplugged_node():
        assert not answers(there)
    until(lambda: answers(there), "the node that was plugged in again")


def test_pods_go_on_without_the_api_server_which_comes_back_knowing_them(cluster, pair):
    there = address(cluster, "node2", pair)
    with no_api_server():
        assert not own.is_up()
        assert answers(there)
    assert own.is_up()
    assert address(cluster, "node2", pair) == there


def test_a_container_whose_every_process_is_killed_says_so_and_its_neighbours_live(cluster, pair):
    two = pod("two", pair)
    two["spec"]["restartPolicy"] = "Never"
    two["spec"]["containers"] *= 2
    two["spec"]["containers"][1] = {**two["spec"]["containers"][0], "name": "victim", "command": ["sleep", "600"]}
    del two["spec"]["containers"][1]["readinessProbe"]
    run_pods(cluster, two)
    end_container(cluster, pair, "two", "victim")

    def state(container: str) -> dict[str, dict[str, object]]:
        found = cluster.get("pod", "two", "--namespace", pair)["status"]["containerStatuses"]
        return next(status["state"] for status in found if status["name"] == container)

    until(lambda: "terminated" in state("victim"), "the end of the container to be reported")
    assert state("victim")["terminated"]["exitCode"] == 137
    assert "running" in state("main")


def test_a_cluster_that_is_up_is_left_as_it_is(own_cluster):
    before = own.status()
    assert not own.up(print)
    assert own.status() == before
