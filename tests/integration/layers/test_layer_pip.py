import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from okiba.adapters import lifeline
from okiba.adapters.layer_pip import LayerBuilder
from okiba.adapters.local_python import find_interpreter, installed_runtimes
from okiba.core.errors import InvalidParameter, PlatformError
from okiba.core.function import Layer
from okiba.core.layer import layer_of, layer_packages
from tests.deadline import until

HERE = f"python3.{sys.version_info[1]}"


@pytest.fixture
def builder(tmp_path):
    return LayerBuilder(tmp_path, find_interpreter, os.environ)


def layer(requirements, runtime=HERE, **options):
    return layer_of(requirements, runtime, "linux-x86_64", **options)


def leftovers(folder: Path):
    return [path.name for path in (folder / "layers").iterdir() if not path.name.endswith(".lock")]


def test_a_layer_is_built_whole_and_told_of_as_it_comes(builder, tmp_path):
    six, said = layer("six==1.17.0"), []
    assert builder.build(six, HERE, said.append) is True
    assert builder.is_built(six.hash)
    assert (tmp_path / layer_packages(six.hash) / "six.py").is_file()
    assert leftovers(tmp_path) == [six.hash]
    assert said


def test_a_layer_that_is_there_is_not_built_again(builder):
    six = layer("six==1.17.0")
    builder.build(six, HERE, print)
    assert builder.build(six, "python9.9", print) is True


@pytest.mark.parametrize("runtime", [name for name in installed_runtimes() if name != HERE][:1])
def test_a_layer_for_another_python_is_compiled_by_it(builder, tmp_path, runtime):
    six = layer("six==1.17.0", runtime)
    builder.build(six, runtime, print)
    compiled = (tmp_path / layer_packages(six.hash) / "__pycache__").glob("*.pyc")
    assert [path.name for path in compiled] == [f"six.cpython-{runtime.removeprefix('python').replace('.', '')}.pyc"]


def test_no_requirements_make_an_empty_layer(builder, tmp_path):
    empty = layer("# nothing\n")
    builder.build(empty, HERE, print)
    assert list((tmp_path / layer_packages(empty.hash)).iterdir()) == []


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        (
            "no-such-package-of-okiba==1.0",
            "No matching distribution found for no-such-package-of-okiba==1.0 (only wheels",
        ),
        ("six==99", "No matching distribution found for six==99"),
    ],
    ids=["a package that does not exist", "a version that does not exist"],
)
def test_requirements_that_do_not_exist_are_refused_in_pips_words(builder, tmp_path, requirements, said):
    with pytest.raises(InvalidParameter) as refusal:
        builder.build(layer(requirements), HERE, print)
    assert said in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)
    assert leftovers(tmp_path) == []


def test_requirements_that_slipped_past_the_edge_never_reach_pip(builder):
    with pytest.raises(InvalidParameter, match="line 1"):
        builder.build(Layer("f" * 64, "--index-url=http://127.0.0.1:1/ six"), HERE, print)


def test_a_runtime_without_an_interpreter_is_refused(builder):
    with pytest.raises(InvalidParameter, match=r"python3\.99 has no interpreter"):
        builder.build(layer("six", "python3.99"), "python3.99", print)


def test_an_index_that_is_away_is_the_platforms_trouble(tmp_path):
    environment = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    builder = LayerBuilder(tmp_path, find_interpreter, {**environment, "PIP_CONFIG_FILE": os.devnull})
    with pytest.raises(PlatformError, match="requirements: "):
        builder.build(layer("six"), HERE, print)


def test_a_build_that_takes_too_long_is_ended(tmp_path):
    builder = LayerBuilder(tmp_path, find_interpreter, os.environ, build_s=0.05)
    with pytest.raises(PlatformError, match="did not finish within 0 s"):
        builder.build(layer("six==1.17.0"), HERE, print)
    assert leftovers(tmp_path) == []


def test_only_one_of_two_builds_a_layer_at_a_time(builder):
    six, begun, go_on = layer("six==1.17.0"), threading.Event(), threading.Event()

    def hold():
        begun.set()
        go_on.wait(30)

    first = threading.Thread(target=builder.build, args=(six, HERE, print, hold))
    first.start()
    assert begun.wait(30)
    assert builder.build(six, HERE, print) is False
    go_on.set()
    first.join(60)
    assert builder.is_built(six.hash)


def test_pip_sees_nothing_of_the_platforms_own_variables(tmp_path):
    seen = tmp_path / "seen"
    spy = tmp_path / "python"
    spy.write_text(f"#!/bin/sh\nenv > {seen}\nexit 1\n")
    spy.chmod(0o755)
    environment = {**os.environ, "OKIBA_PLATFORM_KEY": "geheim", "AWS_SECRET_ACCESS_KEY": "geheim"}
    with pytest.raises((InvalidParameter, PlatformError)):
        LayerBuilder(tmp_path, lambda _: spy, environment).build(layer("six"), HERE, print)
    assert "PATH=" in seen.read_text()
    assert "geheim" not in seen.read_text()


def test_a_build_dies_with_whoever_started_it():
    starter = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-I', '-S', {lifeline.__file__!r}, 'sleep', '60'],"
        " stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    group = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: not group_exists(group), "the build's processes to end")


def group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    members = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True).stdout.split()
    return any(not state.startswith("Z") for state in members)


def test_the_lifeline_passes_on_how_its_program_ended():
    argv = [sys.executable, "-I", "-S", lifeline.__file__, "sh", "-c", "exit 7"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.wait(30) == 7


def test_a_layer_once_built_comes_from_the_cache_without_an_index(tmp_path):
    cache, six = tmp_path / "cache", layer("six==1.17.0")
    LayerBuilder(tmp_path / "first", find_interpreter, os.environ, cache=cache).build(six, HERE, print)
    nowhere = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_CONFIG_FILE": os.devnull}
    second = LayerBuilder(tmp_path / "second", find_interpreter, nowhere, cache=cache)
    assert second.build(six, HERE, print)
    built = tmp_path / "second" / layer_packages(six.hash) / "six.py"
    built.write_text("changed by its function")
    assert "changed" not in (cache / six.hash / "python/six.py").read_text()
