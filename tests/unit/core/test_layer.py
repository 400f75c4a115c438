import time

import pytest

from okiba.core.errors import InvalidParameter
from okiba.core.layer import (
    BASE_REQUIREMENTS,
    MAX_REQUIREMENTS,
    LayerIntent,
    LayerPhase,
    asks_anew,
    base_layer,
    checked_requirements,
    layer_of,
    layer_packages,
    layer_retry_ms,
)

LINUX = "linux-x86_64"


def test_equal_content_has_an_equal_hash_whatever_the_comments():
    plain = layer_of("Pillow>=11,<14\nsix==1.17.0\n", "python3.11", LINUX)
    commented = layer_of("# images\nPillow>=11,<14   # pinned below 14\n\nsix==1.17.0", "python3.11", LINUX)
    assert plain == commented


@pytest.mark.parametrize(
    "other",
    [
        layer_of("six==1.16.0", "python3.11", LINUX),
        layer_of("six==1.17.0", "python3.12", LINUX),
        layer_of("six==1.17.0", "python3.11", "linux-aarch64"),
        layer_of("six==1.17.0", "python3.11", LINUX, allow_source=True),
    ],
    ids=["other version of a package", "other Python", "other machine", "source allowed"],
)
def test_whatever_changes_the_content_changes_the_hash(other):
    assert layer_of("six==1.17.0", "python3.11", LINUX).hash != other.hash


def test_every_slot_has_boto3_and_minio_pinned():
    base = base_layer("python3.11", LINUX)
    assert base.requirements == BASE_REQUIREMENTS
    assert {"boto3==1.44.5", "minio==7.2.20"} < set(BASE_REQUIREMENTS.splitlines())
    assert str(layer_packages(base.hash)) == f"layers/{base.hash}/python"


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        ("Pillow", "Pillow"),
        ("requests[security, socks] >= 2.8.1, == 2.8.*", "requests[security, socks] >= 2.8.1, == 2.8.*"),
        ("numpy~=2.3; python_version >= '3.11' and sys_platform == \"linux\"", None),
        ("six==1.17.0 --hash=sha256:" + "ab" * 32, None),
        ("six==1.17.0 \\\n    --hash=sha256:" + "ab" * 32, "six==1.17.0 --hash=sha256:" + "ab" * 32),
        ("foo (>=1,<2)", None),
        ("\ufeffsix", "six"),
        ("torch==2.8.0+cpu", None),
        ("odd===1!2.0-rc.1", None),
    ],
)
def test_packages_by_name_are_taken(written, understood):
    assert checked_requirements(written) == (understood or written) + "\n"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--index-url https://evil.example/simple", "options"),
        ("-r /etc/passwd", "options"),
        ("-e .", "options"),
        ("--find-links=/tmp", "options"),
        ("evil @ https://evil.example/evil-1-py3-none-any.whl", "address"),
        ("git+https://github.com/a/b", "address"),
        ("file:///etc/passwd", "address"),
        ("./local", "address"),
        ("/abs/wheel.whl", "address"),
        ("../up", "address"),
        ("${OKIBA_PLATFORM_KEY}", "expected a package's name"),
        ("six==${HOME}", "expected a package's name"),
        ("six --config-settings=x", "expected a package's name"),
        ("six==1; rm -rf /", "expected a package's name"),
        ("six==1 six==2", "expected a package's name"),
        ("a" * 5_000, "expected a package's name"),
        ("nul\x00", "expected a package's name"),
    ],
)
def test_everything_but_packages_by_name_is_refused_with_its_line(line, why):
    with pytest.raises(InvalidParameter, match=f"(?s)requirements line 2: .*{why}"):
        checked_requirements(f"six\n{line}\n")


@pytest.mark.parametrize("start", ["six", "six>1", "six[", "six;", "six>1;a"])
def test_a_hostile_line_is_refused_quickly(start):
    begun = time.process_time()
    with pytest.raises(InvalidParameter):
        checked_requirements(start + " " * 60_000 + ":")
    assert time.process_time() - begun < 1


def test_requirements_have_a_size_limit():
    with pytest.raises(InvalidParameter, match="at most 65536 bytes, got 65537"):
        checked_requirements("#" * (MAX_REQUIREMENTS + 1))


@pytest.mark.parametrize(
    ("phase", "failed_ms", "asked_ms", "again"),
    [
        (LayerPhase.READY, 10, 0, True),
        (LayerPhase.FAILED, 10, 11, True),
        (LayerPhase.FAILED, 10, 10, False),
        (LayerPhase.WANTED, 10, 11, False),
        (LayerPhase.BUILDING, 10, 11, False),
    ],
    ids=["it was ready and is gone", "deployed again since it failed", "failed", "wanted", "being built"],
)
def test_a_missing_layer_is_asked_for_again_only_when_that_can_help(phase, failed_ms, asked_ms, again):
    intent = LayerIntent(base_layer("python3.11", LINUX), "python3.11", phase, changed_ms=failed_ms)
    assert asks_anew(intent, asked_ms) is again


def test_attempts_at_a_layer_come_ever_further_apart():
    assert [layer_retry_ms(attempts) for attempts in (1, 2, 3, 50)] == [10_000, 20_000, 40_000, 600_000]
