"""What requests may say about a function: each of Lambda's fields is honoured, or changes nothing here, or refused.

Never ignored silently: a value that would change the function's meaning or its security, and cannot be honoured, is
refused by name. Only fields that Lambda itself does not know are passed over, as Lambda does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from okiba.core.errors import InvalidParameter, Unsupported
from okiba.core.limits import (
    MAX_ENVIRONMENT,
    RESERVED_VARIABLES,
    SUPPORTED_RUNTIMES,
    VARIABLE,
    environment_bytes,
)

MAX_TAGS: Final = 50


def configuration_changes(body: Mapping[str, Any], installed: Collection[str], machine: str) -> dict[str, Any]:
    """Fields of `core.Function` that the request sets, by their names there.

    Args:
        body: Of CreateFunction or UpdateFunctionConfiguration.
        installed: Runtimes with an interpreter here.
        machine: The one architecture there is, `x86_64` or `arm64`.

    Raises:
        InvalidParameter: A value is out of range or of the wrong type.
        Unsupported: It asks for what this release does not have.
    """
    refuse_unsupported(body, machine)
    changes = {
        target: read(body[name], name) for name, (target, read) in _HONOURED.items() if body.get(name) is not None
    }
    if "runtime" in changes:
        _check_runtime(changes["runtime"], installed)
    return changes


def refuse_unsupported(body: Mapping[str, Any], machine: str) -> None:
    """Returns if nothing in the request asks for a feature that is absent here.

    Raises:
        Unsupported: Something does; the message names it, and what to do instead where there is something.
    """
    architectures = body.get("Architectures")
    if architectures is not None and architectures != [machine]:
        raise Unsupported(
            f"Architectures: functions run on this machine, which is {machine}; got {architectures!r:.100}"
        )
    for name, (harmless, why) in _ABSENT.items():
        value = body.get(name)
        if value is not None and not harmless(value):
            raise Unsupported(f"{name}: {why}")


def text(maximum: int, pattern: str = "") -> Callable[[Any, str], str]:
    """A reader of strings."""

    def read(value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise InvalidParameter(f"{name} must be a string, got {value!r:.100}")
        if len(value) > maximum:
            raise constraint(value, name, f"have length less than or equal to {maximum}")
        if pattern and not re.fullmatch(pattern, value):
            raise constraint(value, name, f"satisfy regular expression pattern: {pattern}")
        return value

    return read


def number(minimum: int, maximum: int) -> Callable[[Any, str], int]:
    """A reader of whole numbers."""

    def read(value: Any, name: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidParameter(f"{name} must be a whole number, got {value!r:.100}")
        if value > maximum:
            raise constraint(value, name, f"have value less than or equal to {maximum}")
        if value < minimum:
            raise constraint(value, name, f"have value greater than or equal to {minimum}")
        return value

    return read


def constraint(value: object, name: str, rule: str) -> InvalidParameter:
    """The error that Lambda answers when a value breaks a rule of its model."""
    field = name[0].lower() + name[1:]
    shown = str(value)[:256]
    return InvalidParameter(
        f"1 validation error detected: Value '{shown}' at '{field}' failed to satisfy constraint: Member must {rule}"
    )


def _check_runtime(runtime: str, installed: Collection[str]) -> None:
    if runtime not in SUPPORTED_RUNTIMES:
        raise Unsupported(f"Runtime: {runtime!r:.100} is not supported; {', '.join(SUPPORTED_RUNTIMES)} are")
    if runtime not in installed:
        here = ", ".join(sorted(installed)) or "none"
        raise Unsupported(f"Runtime: {runtime} is not installed here; installed: {here}")


def _environment(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or value.keys() - {"Variables"}:
        raise InvalidParameter(f"{name} must be an object with Variables alone, got {value!r:.100}")
    checked = _string_map(value.get("Variables") or {}, f"{name}.Variables")
    for variable, content in checked.items():
        if not VARIABLE.fullmatch(variable) and variable not in RESERVED_VARIABLES:
            raise constraint(
                variable, "environment.variables", f"satisfy regular expression pattern: {VARIABLE.pattern}"
            )
        if "\0" in content:
            raise InvalidParameter(f"{name}.Variables: {variable} has a NUL byte in it")
    _check_environment(checked)
    return checked


def _check_environment(variables: Mapping[str, str]) -> None:
    unable = (
        "Lambda was unable to configure your environment variables because the environment variables you have provided"
    )
    reserved = sorted(variables.keys() & RESERVED_VARIABLES)
    if reserved:
        raise InvalidParameter(
            f"{unable} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    size = environment_bytes(variables)
    if size > MAX_ENVIRONMENT:
        raise InvalidParameter(f"{unable} exceeded the 4KB limit: {size} bytes, {MAX_ENVIRONMENT} are allowed")


def _tags(value: Any, name: str) -> dict[str, str]:
    tags = _string_map(value, name)
    if len(tags) > MAX_TAGS:
        raise InvalidParameter(f"{name}: at most {MAX_TAGS} are allowed, got {len(tags)}")
    for key, content in tags.items():
        if not 1 <= len(key) <= 128 or len(content) > 256:
            raise InvalidParameter(f"{name}: keys have 1 to 128 characters and values up to 256: {key[:128]!r}")
    return tags


def _string_map(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(content, str) for content in value.values()):
        raise InvalidParameter(f"{name} must be an object of strings, got {value!r:.100}")
    return value


_HONOURED: Final[Mapping[str, tuple[str, Callable[[Any, str], Any]]]] = {
    "Runtime": ("runtime", text(64)),
    "Handler": ("handler", text(128, r"[^\s]+")),
    "Role": ("role", text(10_000)),
    "Description": ("description", text(256)),
    "Timeout": ("timeout_s", number(1, 900)),
    "MemorySize": ("memory_mb", number(128, 10_240)),
    "Environment": ("environment", _environment),
    "Tags": ("tags", _tags),
}


def _empty(value: Any) -> bool:
    """Nothing is asked for: null, "", [], {}, or an object of such."""
    return not value or (isinstance(value, dict) and all(_empty(content) for content in value.values()))


def _is(expected: Any) -> Callable[[Any], bool]:
    """The value is this one, which is also what AWS has for default."""
    return lambda value: bool(value == expected)


def _says(expected: Mapping[str, Any]) -> Callable[[Any], bool]:
    """The value is an object that says nothing but AWS's defaults."""
    return lambda value: isinstance(value, dict) and all(expected.get(key) == value[key] for key in value)


def _plain_logging(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= {"LogFormat", "LogGroup"} and value.get("LogFormat") != "JSON"


_ABSENT: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "Publish": (_is(False), "versions are not supported; $LATEST is the only one"),
    "PublishTo": (_empty, "versions are not supported; $LATEST is the only one"),
    "PackageType": (_is("Zip"), "container images are not supported; deploy a zip"),
    "ImageConfig": (_empty, "container images are not supported; deploy a zip"),
    "Layers": (_empty, "layer ARNs are not supported; put packages into requirements.txt and use `okiba deploy`"),
    "VpcConfig": (_empty, "functions have the network of this machine; there are no VPCs"),
    "FileSystemConfigs": (_empty, "file systems cannot be mounted; use a bucket"),
    "DeadLetterConfig": (_empty, "there are no targets for dead letters; Okiba keeps them: `okiba dlq list`"),
    "SnapStart": (_says({"ApplyOn": "None"}), "SnapStart is not supported"),
    "TracingConfig": (_says({"Mode": "PassThrough"}), "tracing is not supported; Mode must be PassThrough"),
    "EphemeralStorage": (_says({"Size": 512}), "the size of /tmp cannot be chosen; Size must be 512"),
    "LoggingConfig": (_plain_logging, "logs are plain text; LogFormat must be Text, without log levels"),
    "DurableConfig": (_empty, "durable functions are not supported"),
    "TenancyConfig": (_empty, "tenant isolation is not supported"),
    "CapacityProviderConfig": (_empty, "capacity providers are not supported"),
    "RuntimeConfig": (_empty, "managed runtime versions are not supported"),
    "AcceleratorConfig": (_empty, "accelerators are not supported"),
    "CodeSigningConfigArn": (_empty, "code signing is not supported"),
    "KMSKeyArn": (_empty, "KMS keys are not supported; environments are encrypted with the platform's key"),
}
