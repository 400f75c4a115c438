"""The chart gives the rights of the golden table, and no other."""

from __future__ import annotations

from tests.chart import rights
from tests.chart.rendering import NAMESPACE, Document, pod_specs


def test_the_roles_give_what_the_golden_table_says(defaults: list[Document]) -> None:
    assert rights.lines(rights.granted(defaults)) == rights.golden()


def test_nothing_is_granted_cluster_wide_and_nothing_by_a_wildcard(defaults: list[Document]) -> None:
    assert not [one for one in defaults if one["kind"].startswith("ClusterRole")]
    assert not [right for right in rights.granted(defaults) if "*" in right]


def test_every_right_is_one_that_the_cluster_is_asked_about(defaults: list[Document]) -> None:
    asked = set(rights.questions(rights.accounts(defaults), [NAMESPACE, rights.FUNCTIONS]))
    assert rights.granted(defaults) <= asked


def test_only_the_controller_has_a_token_and_who_lets_its_objects_go(defaults: list[Document]) -> None:
    with_token = [name for name, spec in pod_specs(defaults) if spec["automountServiceAccountToken"]]
    assert sorted(with_token) == ["Deployment/okiba-controller", "Job/okiba-let-go"]
