from __future__ import annotations

from okiba_runtime.outcomes import MAX_BYTES, MAX_OUTCOMES, Outcomes


def test_an_outcome_is_handed_out_once():
    outcomes = Outcomes()
    outcomes.keep("a", b"answer")

    assert outcomes.take("a") == b"answer"
    assert outcomes.take("a") is None


def test_the_oldest_falls_out_when_there_are_too_many():
    outcomes = Outcomes()
    for number in range(MAX_OUTCOMES + 2):
        outcomes.keep(str(number), b"x")

    assert outcomes.request_ids == [str(number) for number in range(2, MAX_OUTCOMES + 2)]


def test_the_oldest_fall_out_when_they_are_too_large_but_never_the_newest():
    outcomes = Outcomes()
    outcomes.keep("a", b"x")
    outcomes.keep("b", bytes(MAX_BYTES))
    outcomes.keep("c", bytes(MAX_BYTES + 1))

    assert outcomes.request_ids == ["c"]


def test_a_second_answer_for_an_id_replaces_the_first():
    outcomes = Outcomes()
    outcomes.keep("a", b"first")
    outcomes.keep("a", b"second")

    assert (outcomes.take("a"), len(outcomes)) == (b"second", 0)
