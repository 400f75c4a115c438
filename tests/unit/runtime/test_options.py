from __future__ import annotations

import pytest

from okiba_runtime.options import UsageError, parse


def test_options_are_read():
    options = parse(["--listen", "unix:/s", "--lifeline", "5", "--private-tmp", "--preload-path", "/a",
                     "--preload-path", "/b", "--preload", "PIL,boto3", "--cgroup", "/c"])  # fmt: skip

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
        parse(words)


def test_starting_again_without_preloading_keeps_everything_else():
    options = parse(["--nursery", "4", "--lifeline", "5", "--preload", "grpc", "--preload-path", "/a"])

    again = parse(options.without_preload("2 threads after importing grpc"))

    assert (again.nursery, again.lifeline, again.preload, again.preload_path) == (4, 5, (), ())
    assert again.preload_dropped == "2 threads after importing grpc"
