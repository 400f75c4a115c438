"""`okiba doctor` against an Okiba that runs: by its state folder, and as somebody who has only its address and keys."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import OKIBA, Installation, eventually, installation

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Inbox:
    Type: AWS::S3::Bucket
    Properties: { BucketName: inbox }
  Fails:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: fails
      Runtime: python3.11
      Handler: app.handler
      CodeUri: src/
      Events:
        Upload:
          Type: S3
          Properties: { Bucket: !Ref Inbox, Events: s3:ObjectCreated:* }
"""


@pytest.fixture(scope="module")
def okiba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("fails")
    (folder / "src").mkdir()
    (folder / "template.yaml").write_text(TEMPLATE)
    (folder / "src/app.py").write_text("def handler(event, context):\n    raise ValueError('always')\n")
    with installation() as here:
        here.deploy(folder)
        yield here


def verdicts(told: str) -> dict[str, tuple[str, str]]:
    return {finding["check"]: (finding["verdict"], finding["seen"]) for finding in json.loads(told)["findings"]}


def test_all_is_well_on_a_machine_whose_minio_announces(okiba: Installation) -> None:
    ran = eventually(lambda: (told := okiba.okiba("doctor", "--json", check=False)).returncode == 0 and told, 60)
    found = verdicts(ran.stdout)
    assert {"system", "python", "gateway", "redis", "controller", "jobs", "object store"} <= set(found)
    for check in ("lane direct", "lane queued", "bucket inbox"):
        assert found[check][0] == "ok", found[check]
    assert f"http://{okiba.admin}/webhooks/s3/direct" in found["lane direct"][1]
    assert "mc admin config set" not in okiba.okiba("doctor").stdout


def test_what_it_says_a_minio_needs_is_what_okibas_own_has(okiba: Installation) -> None:
    told = json.loads(okiba.okiba("doctor", "--json", "--show-token").stdout)["minio"]["environment"]
    environ = Path(f"/proc/{okiba.pid('minio')}/environ").read_text().split("\0")
    has = dict(entry.split("=", 1) for entry in environ if entry.startswith(("MINIO_NOTIFY", "MINIO_API")))
    assert told == has
    page = okiba.okiba("doctor", "--minio").stdout
    assert okiba.webhook_token not in page
    assert "credentials.json" in page


def test_a_bucket_whose_rules_somebody_removed_is_found(okiba: Installation) -> None:
    s3 = okiba.client("s3")
    kept = s3.get_bucket_notification_configuration(Bucket="inbox")["QueueConfigurations"]

    def found() -> bool:
        s3.put_bucket_notification_configuration(Bucket="inbox", NotificationConfiguration={})
        ran = okiba.okiba("doctor", "--json", check=False)
        verdict, seen = verdicts(ran.stdout)["bucket inbox"]
        return (ran.returncode, verdict) == (1, "failed") and "has no rule okiba-direct" in seen

    eventually(found, 60)  # the controller sets them again once a minute, perhaps just now
    s3.put_bucket_notification_configuration(Bucket="inbox", NotificationConfiguration={"QueueConfigurations": kept})
    assert verdicts(okiba.okiba("doctor", "--json").stdout)["bucket inbox"][0] == "ok"


def test_who_has_only_its_address_and_keys_can_ask_too(okiba: Installation, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OKIBA_")}
    elsewhere = {"OKIBA_ENDPOINT": okiba.variables["AWS_ENDPOINT_URL"], "XDG_STATE_HOME": str(tmp_path)}
    ran = subprocess.run(
        [*OKIBA, "doctor"],
        env={**environment, **okiba.variables, **elsewhere},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "bucket inbox: announces" in ran.stdout
    assert f"MINIO_NOTIFY_WEBHOOK_ENDPOINT_OKIBADIRECT=http://{okiba.admin}/webhooks/s3/direct" in ran.stdout


def test_while_an_event_waits_for_its_retry_the_list_of_dead_letters_says_so(okiba: Installation) -> None:
    okiba.client("s3").put_object(Bucket="inbox", Key="a", Body=b"")
    told = eventually(lambda: (page := okiba.okiba("dlq", "list").stdout) and "retry" in page and page, 30)
    assert told.startswith("No dead letters\nfails: 1 event waits for a retry, the next at ")
    assert "next retry" in okiba.okiba("status").stdout
