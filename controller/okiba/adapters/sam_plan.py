"""What a template comes to: buckets and functions, in Okiba's own nouns. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from okiba.core.binding import Binding
from okiba.core.function import Statement


@dataclass(frozen=True, slots=True)
class FunctionPlan:
    """One function as its template wants it.

    Args:
        folder: Where its code lies; None when `inline` is the code of `index.py`.
        reserved_concurrency: None when the template does not say.
        retries: Of an asynchronous invocation; Lambda's default of 2 where the template does not say.
        preload: Modules to import ahead of time.
        allow_source: Whether packages without a wheel may be built.
        warnings: What the template says about it that has no effect here.
    """

    logical_id: str
    name: str
    runtime: str
    handler: str
    folder: Path | None
    inline: str
    description: str
    memory_mb: int
    timeout_s: int
    environment: Mapping[str, str]
    reserved_concurrency: int | None
    retries: int
    max_event_age_s: int
    bindings: tuple[Binding, ...]
    statements: tuple[Statement, ...]
    preload: tuple[str, ...]
    allow_source: bool
    tags: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole template.

    Args:
        stack: The name under which its functions belong together.
        buckets: Names, in the template's order.
        warnings: All of them, those of the functions too.
    """

    stack: str
    buckets: tuple[str, ...]
    functions: tuple[FunctionPlan, ...]
    warnings: tuple[str, ...]
