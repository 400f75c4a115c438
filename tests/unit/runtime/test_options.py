from __future__ import annotations

import pytest

from okiba_runtime.options import UsageError, parse


def test_options_are_read():
    options = parse(["--listen", "unix:/s", "--lifeline", "5", "--private-tmp", "--preload-path", "/a",
                     "--preload-path", "/b", "--preload", "PIL,boto3", "--cgroup", "/c", "--echo"], {})  # fmt: skip

    assert (options.echo, options.runtime_dir) == (True, "/var/okiba")
    assert (options.listen, options.lifeline, options.private_tmp, options.cgroup) == ("unix:/s", 5, True, "/c")
    assert (options.preload_path, options.preload) == (("/a", "/b"), ("PIL", "boto3"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--listen or --nursery is missing"),
        (["--listen"], "--listen: unknown, or its value is missing"),
        (["--bogus", "x"], "--bogus: unknown"),
        (["--listen", "unix:/s", "--lifeline", "x"], "--lifeline: expected the number of a descriptor, got 'x'"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(words, message):
    with pytest.raises(UsageError, match=message):
        parse(words, {})


def test_the_folder_for_what_is_fetched_is_told_by_the_environment_or_by_a_word():
    told = {"OKIBA_RUNTIME_DIR": "/a"}

    assert parse(["--listen", "unix:/s"], told).runtime_dir == "/a"
    assert parse(["--listen", "unix:/s", "--runtime-dir", "/b"], told).runtime_dir == "/b"


def test_starting_again_without_preloading_keeps_everything_else():
    words = ["--nursery", "4", "--lifeline", "5", "--preload", "grpc", "--preload-path", "/a", "--echo"]
    options = parse(words, {"OKIBA_RUNTIME_DIR": "/r"})

    again = parse(options.without_preload("2 threads after importing grpc"), {})

    assert (again.echo, again.runtime_dir) == (True, "/r")
    assert (again.nursery, again.lifeline, again.preload, again.preload_path) == (4, 5, (), ())
    assert again.preload_dropped == "2 threads after importing grpc"
