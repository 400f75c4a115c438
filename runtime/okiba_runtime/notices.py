"""What a worker tells its agent beside its output: short lines on a pipe of their own.

A worker writes them with one system call each and never waits for an answer. User code in the worker can write into
the same pipe, so whoever reads them believes nothing that does not parse, and harms nobody but its own slot.

    fetched AT_US                   what the order names is there; on the clock that all processes share (monotonic)
    unfetched JSON                  it cannot be had; the worker waits for another order
    init MICROSECONDS               the handler is loaded
    failed MICROSECONDS JSON        it is not; with the error that invocations end with
    start ID AT_US TIMEOUT_US       an invocation begins
    end ID PEAK_KB                  it has ended, its log lines are written, its answer follows
    kept COUNT                      so many outcomes wait: at a greeting, at each that is collected, when told to leave
    modules NAME,NAME               what the init phase imported out of layers and packages
"""

from __future__ import annotations


def fetched(at_us: int) -> bytes:
    """What the order names is there."""
    return b"fetched %d\n" % at_us


def unfetched(error_json: bytes) -> bytes:
    """It cannot be had."""
    return b"unfetched %b\n" % error_json


def init(micros: int) -> bytes:
    """The handler is loaded."""
    return b"init %d\n" % micros


def failed(micros: int, error_json: bytes) -> bytes:
    """The init phase failed."""
    return b"failed %d %b\n" % (micros, error_json)


def kept(count: int) -> bytes:
    """So many outcomes wait to be collected."""
    return b"kept %d\n" % count


def modules(names: list[str]) -> bytes:
    """What to preload next time."""
    return f"modules {','.join(names)}\n".encode()


def parse(line: bytes) -> tuple[str, list[bytes]] | None:
    """Word and arguments of a line; None for what no worker of ours writes."""
    word, _, rest = line.partition(b" ")
    match word:
        case b"init" | b"fetched" | b"kept" if rest.isdigit():
            return word.decode(), [rest]
        case b"unfetched":
            return "unfetched", [rest]
        case b"failed":
            arguments = rest.split(b" ", 1)
            return ("failed", arguments) if len(arguments) == 2 and arguments[0].isdigit() else None
        case b"start":
            arguments = rest.split(b" ")
            return ("start", arguments) if len(arguments) == 3 and all(map(bytes.isdigit, arguments[1:])) else None
        case b"end":
            arguments = rest.split(b" ")
            return ("end", arguments) if len(arguments) == 2 and arguments[1].isdigit() else None
        case b"modules":
            return "modules", [rest]
        case _:
            return None
