"""Celery as Okiba uses it: chores that may be lost, repeated and late, and never an invocation.

Celery on Redis takes a task off its list before it has noted that it did, and repeats one that takes longer than the
visibility timeout. So a task here is idempotent, bounded in time, and sent again from an intent that Redis keeps.
"""

from __future__ import annotations

import logging
import threading

from celery import Celery
from kombu.exceptions import OperationalError

from okiba.adapters.celery_broker import Broker

log = logging.getLogger(__name__)

QUEUE = "okiba-jobs"
BUILD_LAYER = "okiba.build_layer"

# Twice the longest a task may take (a layer: 600 s) and a bit; Celery would run it beside itself otherwise.
VISIBILITY_S = 1_500


def jobs_app(broker: Broker) -> Celery:
    """The Celery application; it connects when it is first used."""
    app = Celery("okiba", broker=broker.url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # its fan-out is one more connection and a way in
        task_send_sent_event=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a broker that is away comes back; the liveness check decides otherwise
        broker_connection_timeout=2,
        broker_pool_limit=2,
        # A task goes on through a lost connection; what is sent again finds it done, or its lock held.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_S,
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "max_retries": 1,  # of one publishing; the intent is what lasts
            **broker.options,
        },
        timezone="UTC",
        broker_use_ssl=broker.tls or False,
    )
    return app


class JobSender:
    """Sends tasks from threads of a process that runs none itself."""

    def __init__(self, broker: Broker) -> None:
        self._app = jobs_app(broker)
        self._sending = threading.Lock()  # kombu's pool may wait for ever; one at a time never has to

    def build_layer(self, layer_hash: str) -> bool:
        """A worker is told of the intent; False when the broker is away, and jobs will find it themselves."""
        try:
            with self._sending:
                self._app.send_task(BUILD_LAYER, [layer_hash], queue=QUEUE, retry=False)
        except (OperationalError, OSError) as error:
            log.warning("layer's job not sent", extra={"layer": layer_hash, "reason": str(error)})
            return False
        return True
