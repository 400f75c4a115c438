"""What is read of botocore before a fork changes nothing but the time that a client takes; in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, os, sys
import botocore.compat, botocore.loaders, botocore.session
from okiba_runtime import botocore_files

if sys.argv[1] == "ahead":
    botocore_files.read_ahead()

inspected = []
inspect = botocore.compat.inspect.getfullargspec
botocore.compat.inspect.getfullargspec = lambda function: inspected.append(function) or inspect(function)
opened = []
ways = botocore.loaders._JSON_OPEN_METHODS
for name, way in list(ways.items()):
    ways[name] = lambda path, *how, way=way, **more: opened.append(path) or way(path, *how, **more)
touched = []
listdir = os.listdir
os.listdir = lambda path: touched.append(path) or listdir(path)
session = botocore.session.Session()
loader = session.get_component("data_loader")
loader.search_paths.append(sys.argv[2])  # as boto3 does
client = session.create_client("s3", "eu-north-1", aws_access_key_id="a", aws_secret_access_key="b")
opened_for_client = len(opened)
first, second = (botocore.loaders.Loader().load_service_model("s3", "service-2") for _ in range(2))
print(json.dumps({
    "operations": client.meta.service_model.operation_names,
    "url": client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"}).partition("?")[0],
    "services": loader.list_available_services("service-2"),
    "paginated": loader.list_available_services("paginators-1"),
    "equal": first == second,
    "same": first is second,
    "opened": opened_for_client,
    "inspected": len(inspected),
    "looked into": sum("botocore" in str(path) for path in touched),
}))
"""


def seen(how: str, folder: Path, **variables: str) -> dict[str, object]:
    environment = {**os.environ, "HOME": "/nonexistent", **variables}
    command = [sys.executable, "-c", PROGRAM, how, str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(ran.stdout)


def test_a_client_is_the_same_and_botocores_folders_are_not_searched_for_it(tmp_path):
    usual, ahead = seen("usual", tmp_path), seen("ahead", tmp_path)
    searched = usual.pop("looked into"), ahead.pop("looked into")
    inspected = usual.pop("inspected"), ahead.pop("inspected")
    opened = usual.pop("opened"), ahead.pop("opened")
    assert ahead == usual
    assert ahead["equal"], "what is loaded twice is equal"
    assert not ahead["same"], "and not shared, for botocore changes it"
    assert opened[1] <= 1 < 5 <= opened[0], opened
    assert inspected[1] * 10 < inspected[0], inspected
    assert searched[1] * 2 < searched[0], searched  # paginators are listed as ever


def test_services_of_other_folders_are_found(tmp_path):
    for folder, service in (("data", "okiba"), ("models", "hako")):
        model = tmp_path / folder / service / "2026-01-01" / "service-2.json"
        model.parent.mkdir(parents=True)
        model.write_text(json.dumps({"metadata": {}}))
    services = seen("ahead", tmp_path / "data", AWS_DATA_PATH=str(tmp_path / "models"))["services"]
    assert services == sorted({*services, "okiba", "hako", "s3"})
