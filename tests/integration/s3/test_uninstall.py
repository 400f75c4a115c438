"""What uninstalling does to a store that stays."""

from minio.notificationconfig import NotificationConfig, QueueConfig

from okiba.apps.uninstall import silence_buckets
from okiba.core.binding import Binding
from okiba.core.notification import LANES

CREATED = "s3:ObjectCreated:*"


def test_uninstalling_takes_okibas_rules_out_of_every_bucket_and_leaves_those_of_others(admin, root):
    for bucket in ("leaving-one", "leaving-two", "leaving-nothing"):
        admin.ensure_bucket(bucket)
    theirs = QueueConfig(queue=LANES["queued"], events=["s3:ObjectRemoved:*"], config_id="theirs")
    root.set_bucket_notification("leaving-two", NotificationConfig(queue_config_list=[theirs]))
    for bucket in ("leaving-one", "leaving-two"):
        admin.announce(bucket, [Binding("Upload", bucket, (CREATED,))])
    assert {"leaving-one", "leaving-two"} <= set(silence_buckets(admin))
    assert admin.rules("leaving-one") == ()
    assert [rule.id for rule in admin.rules("leaving-two")] == ["theirs"]
    assert silence_buckets(admin) == []
