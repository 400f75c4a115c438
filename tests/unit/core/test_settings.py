"""Settings as the environment tells them."""

from __future__ import annotations

import pytest

from okiba.core.errors import InvalidParameter
from okiba.settings import Settings

OTHERS = (
    *("OKIBA_MINIO", "OKIBA_CACHE_DIR", "OKIBA_RUNTIME_DIR", "OKIBA_ENDPOINT", "OKIBA_PUBLISHED_ENDPOINT"),
    *("OKIBA_PORT", "OKIBA_S3_PORT", "OKIBA_IMAGE", "OKIBA_MINIO_IMAGE", "OKIBA_TEST_KUBECONFIG"),
    *("OKIBA_ADMIN_ACCESS_KEY", "OKIBA_ADMIN_SECRET_KEY"),
    *("OKIBA_GATEWAY_SERVICE_HOST", "OKIBA_GATEWAY_PORT", "OKIBA_GATEWAY_PORT_4566_TCP_ADDR", "OKIBA_REDIS_PORT"),
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OKIBA_WARM_SLOT", "OKIBA_WARM_SLOTS"),
        ("OKIBA_LOGLEVEL", "OKIBA_LOG_LEVEL"),
        ("OKIBA_IDLE_SLOTS_MS", "OKIBA_IDLE_SLOT_MS"),
        ("OKIBA_REDIS_URI", "OKIBA_REDIS_URL"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{name} is no setting; {meant} is one$"):
        Settings.from_environment({name: "1"})


@pytest.mark.parametrize("name", OTHERS)
def test_variables_of_others_are_theirs(name: str) -> None:
    assert Settings.from_environment({name: "tcp://10.0.0.1:4566"}) == Settings()


def test_a_value_of_another_type_is_refused_with_its_variable() -> None:
    with pytest.raises(InvalidParameter, match="OKIBA_WARM_SLOTS must be a whole number, got 'many'"):
        Settings.from_environment({"OKIBA_WARM_SLOTS": "many"})
