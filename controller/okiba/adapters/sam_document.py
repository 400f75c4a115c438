"""A template as YAML, with the line of everything in it, so that whatever is refused can be pointed at.

What YAML can do and a template has no need of is refused: aliases (a few hundred bytes of them become gigabytes),
duplicate keys (the first one would vanish silently), unknown tags. Scalars are read as a template's author means them:
`0123` and dates stay the text that was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from okiba.core.errors import InvalidParameter, NotFound, Unsupported

MAX_TEMPLATE_BYTES: Final = 262_144
"""256 KB; CloudFormation allows 1 MB of templates in S3, and 51,200 bytes given directly."""

MAX_DEPTH: Final = 64
"""Levels of nesting; a resource's deepest property needs 12."""

Place = tuple[str | int, ...]
"""Where something stands in a template: `("Resources", "Thumbnails", "Properties", "Handler")`."""

_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Document:
    """A template's content in the long form (`Fn::Sub`, never `!Sub`), and where each part of it was written."""

    name: str
    body: dict[str, Any]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest thing around it that was written."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def at(self, place: Place, text: str) -> str:
        """The text behind its file and line, as editors understand it."""
        return f"{self.name}:{self.line(place)}: {text}"

    def invalid(self, place: Place, text: str) -> InvalidParameter:
        """The error that the template is wrong here."""
        return InvalidParameter(self.at(place, text))

    def unsupported(self, place: Place, text: str) -> Unsupported:
        """The error that Okiba does not have what the template asks for here."""
        return Unsupported(self.at(place, text))


def read_document(path: Path) -> Document:
    """The template in a file.

    Raises:
        NotFound: There is no such file.
        InvalidParameter: It is over 256 KB, or not YAML, or YAML that a template may not use; says the line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEMPLATE_BYTES + 1)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_TEMPLATE_BYTES:
        raise InvalidParameter(f"{path} is {path.stat().st_size} bytes; a template may have {MAX_TEMPLATE_BYTES}")
    return parse_document(path.name, content)


def parse_document(name: str, content: bytes) -> Document:
    """The template in these bytes; `name` is what errors call it. Raises as `read_document`."""
    try:
        loader = _Loader(content.decode("utf-8"))
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidParameter(f"{name}:{line}: not YAML that a template may use: {error.problem}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidParameter(f"{name}: not a text in UTF-8 that YAML allows: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InvalidParameter(f"{name}:1: expected a template (a mapping with Transform and Resources)")
    lines: dict[Place, int] = {}
    body = _Builder(name, lines).build(root, ())
    return Document(name, body, lines)


class _Loader(yaml.SafeLoader):
    """Composes nodes, of limited depth and without aliases."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._refuse("aliases (*name) are refused; write it out")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self._refuse(f"nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refuse(self, text: str) -> NoReturn:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it open
        raise yaml.composer.ComposerError(None, None, text, mark)


class _Builder:
    """Turns nodes into plain values and notes their lines."""

    def __init__(self, name: str, lines: dict[Place, int]) -> None:
        self._name = name
        self._lines = lines

    def build(self, node: yaml.Node, place: Place) -> Any:
        self._lines.setdefault(place, node.start_mark.line + 1)
        if node.tag.startswith("!"):
            return self._intrinsic(node, place)
        return self._plain(node, place)

    def _plain(self, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {key: self.build(value, (*place, key)) for key, value in self._entries(node, place)}
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
        return _scalar(node.tag, str(node.value))

    def _entries(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, yaml.Node]]:
        seen: set[str] = set()
        for key_node, value in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidParameter(f"{self._name}:{line}: a key must be a plain text")
            if key in seen:
                raise InvalidParameter(f"{self._name}:{line}: {key} stands here twice; which one is meant?")
            seen.add(key)
            self._lines[*place, key] = line
            yield key, value

    def _intrinsic(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """`!Sub x` as `{"Fn::Sub": x}`; whether Okiba has that function is decided where it is resolved."""
        short = node.tag[1:]
        name = short if short in {"Ref", "Condition"} else f"Fn::{short}"
        value = self._plain(_untagged(node), (*place, name))
        if name == "Fn::GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {name: value}


def _untagged(node: yaml.Node) -> yaml.Node:
    if isinstance(node, yaml.ScalarNode):
        return yaml.ScalarNode("tag:yaml.org,2002:str", node.value, node.start_mark, node.end_mark)
    kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
    return type(node)(f"tag:yaml.org,2002:{kind}", node.value, node.start_mark, node.end_mark)


def _scalar(tag: str, text: str) -> str | int | float | bool | None:
    match tag.removeprefix("tag:yaml.org,2002:"):
        case "null":
            return None
        case "bool":
            return text.lower() in {"true", "yes", "on"}
        case "int" if _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        case "float" if _DECIMAL.fullmatch(text):
            return float(text)
        case _:
            return text
