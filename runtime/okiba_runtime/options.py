"""What the command line says. Read by hand: argparse costs as much start-up time as the agent itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

USAGE = """usage: okiba_runtime --listen unix:/path|tcp:host:port [--lifeline FD] [--private-tmp] [--cgroup DIR]
                     [--runtime-dir DIR] [--echo] [--preload-path DIR]... [--preload MODULE,MODULE]
       okiba_runtime --nursery FD [--lifeline FD] [--preload-path DIR]... [--preload MODULE,MODULE]"""


# Where containers have a volume for it.
_RUNTIME_DIR = "/var/okiba"


class UsageError(ValueError):
    """The command line cannot be understood; the message says which word of it."""


@dataclass(slots=True)
class Options:
    """One agent's, or one nursery's, options.

    Args:
        listen: `unix:/path` or `tcp:host:port`; empty in a nursery.
        lifeline: Inherited descriptor whose end of file ends the slot; -1 for none.
        private_tmp: Give the slot namespaces and a /tmp of its own, where the system allows it.
        cgroup: A writable cgroup made for this slot alone; empty for none.
        preload_path: Folders that the preloaded modules come from, in the order of sys.path.
        preload: Modules to import before the first fork.
        runtime_dir: Folder for what is fetched from the object store.
        echo: Write the worker's output to this process's standard output, too.
        nursery: Inherited socket over which slots are asked for; -1 for none.
        preload_dropped: Why preloading was given up, when it was.
    """

    listen: str = ""
    lifeline: int = -1
    private_tmp: bool = False
    cgroup: str = ""
    preload_path: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    runtime_dir: str = _RUNTIME_DIR
    echo: bool = False
    nursery: int = -1
    preload_dropped: str = ""

    def without_preload(self, reason: str) -> list[str]:
        """The command line that starts the same again, but preloads nothing."""
        words = ["--preload-dropped", reason, "--runtime-dir", self.runtime_dir]
        if self.listen:
            words += ["--listen", self.listen]
        if self.lifeline >= 0:
            words += ["--lifeline", str(self.lifeline)]
        if self.private_tmp:
            words += ["--private-tmp"]
        if self.echo:
            words += ["--echo"]
        if self.cgroup:
            words += ["--cgroup", self.cgroup]
        if self.nursery >= 0:
            words += ["--nursery", str(self.nursery)]
        return words


def parse(words: list[str], environment: Mapping[str, str]) -> Options:
    """The options that these words (without the program's name) spell.

    Args:
        environment: Its OKIBA_RUNTIME_DIR is where `--runtime-dir` is not given.

    Raises:
        UsageError: A word is unknown, lacks its value, or has a value that does not fit.
    """
    options = Options(runtime_dir=environment.get("OKIBA_RUNTIME_DIR") or _RUNTIME_DIR)
    rest = iter(words)
    for word in rest:
        if word in ("--private-tmp", "--echo"):
            setattr(options, word[2:].replace("-", "_"), True)
            continue
        value = next(rest, None)
        if value is None:
            raise UsageError(f"{word}: unknown, or its value is missing")
        _set(options, word, value)
    if not options.listen and options.nursery < 0:
        raise UsageError("--listen or --nursery is missing")
    return options


def _set(options: Options, word: str, value: str) -> None:
    match word:
        case "--listen":
            options.listen = value
        case "--lifeline":
            options.lifeline = _descriptor(word, value)
        case "--nursery":
            options.nursery = _descriptor(word, value)
        case "--runtime-dir":
            options.runtime_dir = value
        case "--cgroup":
            options.cgroup = value
        case "--preload-path":
            options.preload_path += (value,)
        case "--preload":
            options.preload += tuple(name for name in value.split(",") if name)
        case "--preload-dropped":
            options.preload_dropped = value
        case _:
            raise UsageError(f"{word}: unknown")


def _descriptor(word: str, value: str) -> int:
    if not value.isdigit():
        raise UsageError(f"{word}: expected the number of a descriptor, got {value!r}")
    return int(value)
