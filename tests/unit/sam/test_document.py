"""Templates as YAML: lines are known, and what a template has no need of is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from okiba.adapters.sam_document import MAX_TEMPLATE_BYTES, parse_document, read_document
from okiba.core.errors import InvalidParameter, NotFound


def test_every_part_knows_its_line() -> None:
    document = parse_document("t.yaml", b"A: 1\nB:\n  - x\n  - C: !Ref D\n")
    assert [document.line(place) for place in (("A",), ("B",), ("B", 1), ("B", 1, "C"))] == [1, 2, 4, 4]
    assert document.line(("B", 1, "C", "further", "in")) == 4
    assert document.at(("B",), "what is wrong") == "t.yaml:2: what is wrong"


def test_short_forms_become_long_ones() -> None:
    document = parse_document("t.yaml", b"a: !Ref X\nb: !GetAtt X.Y.Z\nc: !Sub [t, {v: !Ref W}]\nd: !If [e, f, g]\n")
    assert document.body == {
        "a": {"Ref": "X"},
        "b": {"Fn::GetAtt": ["X", "Y.Z"]},
        "c": {"Fn::Sub": ["t", {"v": {"Ref": "W"}}]},
        "d": {"Fn::If": ["e", "f", "g"]},
    }


def test_scalars_are_what_their_author_meant() -> None:
    text = b"a: 0123\nb: 2012-10-17\nc: 1:30\nd: yes\ne: '5'\nf: 1.5\ng: 12\nh:\ni: 1_000\nj: .inf\n"
    expected = {
        "a": "0123", "b": "2012-10-17", "c": "1:30", "d": True, "e": "5",
        "f": 1.5, "g": 12, "h": None, "i": "1_000", "j": ".inf",
    }  # fmt: skip
    assert parse_document("t.yaml", text).body == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(b"a: &x 1\nb: *x\n", "t.yaml:2: .*aliases", id="an alias"),
        pytest.param(b"a: 1\nb: 2\na: 3\n", "t.yaml:3: a stands here twice", id="a key twice"),
        pytest.param(b"a: [1\nb: 2\n", "t.yaml:2: not YAML", id="a bracket left open"),
        pytest.param(b"? [a]\n: b\n", "t.yaml:1: a key must be a plain text", id="a list as a key"),
        pytest.param(b"- a\n", "expected a template", id="a list instead of a template"),
        pytest.param(b"", "expected a template", id="an empty file"),
        pytest.param(b"a: 1\n---\nb: 2\n", "not YAML", id="two documents"),
        pytest.param(b"a: \xff\n", "UTF-8", id="not UTF-8"),
        pytest.param(b"a: \x00\n", "not a text", id="a NUL byte"),
        pytest.param(b"a: " + b"[" * 100_000, "nested deeper than 64", id="a hundred thousand brackets"),
    ],
)
def test_what_a_template_may_not_be_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        parse_document("t.yaml", text)


def test_python_objects_are_never_made() -> None:
    document = parse_document("t.yaml", b"a: !!python/object/apply:os.system [ls]\n")
    assert document.body == {"a": ["ls"]}


def test_a_template_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_bytes(b"#" * (MAX_TEMPLATE_BYTES + 1))
    with pytest.raises(InvalidParameter, match="262145 bytes; a template may have 262144"):
        read_document(path)


def test_a_template_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.yaml cannot be read"):
        read_document(tmp_path / "nowhere.yaml")
