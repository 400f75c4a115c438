"""What goes into the images is pinned, and pinned as everywhere else."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from okiba.apps.local.tools import GO_PACKAGE, MINIO_SOURCE
from okiba.core.layer import BASE_REQUIREMENTS, checked_requirements

ROOT = Path(__file__).parents[3]
BUILDS = {"setuptools"}


def entries(path):
    """Requirement → its hashes, as a lock file has them."""
    found = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", entry.strip())
        if requirement and not requirement.startswith("#"):
            found[requirement] = set(hashes)
    return found


def pins(lines):
    requirements = [Requirement(line) for line in lines]
    return {
        (canonicalize_name(requirement.name), str(requirement.specifier))
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def closure(requirements):
    """Every distribution that these need here, themselves included."""
    found, open_ones = set(), [(Requirement(line), "") for line in requirements]
    while open_ones:
        requirement, extra = open_ones.pop()
        known = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if known in found or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        found.add(known)
        lines = distribution(requirement.name).requires or []
        open_ones += [(Requirement(line), extra) for line in lines for extra in requirement.extras or {""}]
    return {name for name, _ in found}


def test_the_control_plane_has_the_packages_that_tests_ran_with():
    everything = entries(ROOT / "requirements.lock")
    for requirement, hashes in entries(ROOT / "controller/requirements.lock").items():
        assert hashes
        assert everything[requirement] == hashes


def test_the_control_plane_has_every_package_that_it_needs_and_no_other():
    project = tomllib.loads((ROOT / "controller/pyproject.toml").read_text())["project"]
    locked = {name for name, _ in pins(entries(ROOT / "controller/requirements.lock"))}
    assert locked - BUILDS == closure(project["dependencies"])


def test_a_slot_has_the_packages_of_the_base_layer():
    locked = entries(ROOT / "runtime/packages.lock")
    assert all(locked.values())
    assert pins(locked) == pins(checked_requirements(BASE_REQUIREMENTS).splitlines())


def test_minio_is_built_from_the_source_that_okiba_up_builds():
    assert f"ARG MINIO={MINIO_SOURCE}\n" in (ROOT / "controller/images/minio/Dockerfile").read_text()
    assert list(entries(ROOT / "controller/images/minio/go.lock")) == [GO_PACKAGE]
