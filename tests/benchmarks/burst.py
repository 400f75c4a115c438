"""A hundred calls at once of a function at zero."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.load import quantile
from tests.benchmarks.report import Row
from tests.installation import installation

HANDLER = "import time\n\ndef handler(event, context):\n    time.sleep(0.1)\n    return context.log_stream_name\n"
CALLS = 100


def run() -> list[Row]:
    """The figures."""
    with installation() as here:
        here.deploy_inline("burst", HANDLER, concurrency=CALLS)
        clients = [here.client("lambda") for _ in range(CALLS)]
        for client in clients:
            client.list_functions()
        start = time.perf_counter()

        def call(client):
            response = client.invoke(FunctionName="burst")
            body = response["Payload"].read()
            if "FunctionError" in response:
                raise AssertionError(body)
            return time.perf_counter() - start, body

        with ThreadPoolExecutor(CALLS) as pool:
            answers = list(pool.map(call, clients))
        took = [seconds for seconds, _ in answers]
        slots = len({re.sub(rb'"', b"", body) for _, body in answers})
    return [
        Row(f"{CALLS} calls at once at zero, each 100 ms: answered", len(answers), f">= {CALLS}"),
        Row(f"{CALLS} calls at once at zero, each 100 ms: p99 s", quantile(took, 0.99), "<= 1.5"),
        Row(f"{CALLS} calls at once at zero: different slots that answered", slots),
        Row(f"{CALLS} calls at once at zero: slots made a second", slots / max(took)),
    ]
