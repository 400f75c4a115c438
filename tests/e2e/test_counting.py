"""What the benchmark waits for before it counts effects."""

import pytest

from tests.benchmarks.events import nothing_pending
from tests.installation import Installation, eventually

SLEEPER = "import time\ndef handler(event, context):\n    time.sleep(2)\n"


def test_an_attempt_that_runs_is_pending_and_one_that_ended_is_not(okiba):
    if not isinstance(okiba, Installation):
        pytest.skip("the benchmark is of one machine")
    okiba.deploy_inline("sleeper", SLEEPER, Timeout=10)
    okiba.client("lambda").invoke(FunctionName="sleeper", InvocationType="Event", Payload=b"{}")
    eventually(lambda: okiba.metric("okiba_slots", function="sleeper", state="busy"), 20)
    assert not nothing_pending(okiba, "sleeper")
    eventually(lambda: nothing_pending(okiba, "sleeper"), 20)
