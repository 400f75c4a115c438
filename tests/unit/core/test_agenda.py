from okiba.core.agenda import Agenda


def test_a_name_comes_up_when_it_is_due_and_once():
    agenda = Agenda()
    agenda.add("photos", 10)
    assert [agenda.take(9), agenda.take(10), agenda.take(10)] == [None, "photos", None]


def test_the_earlier_of_two_times_counts():
    agenda = Agenda()
    agenda.add("photos", 50)
    agenda.add("photos", 10)
    agenda.add("photos", 90)
    assert (agenda.wait_ms(0), agenda.take(10), agenda.take(90)) == (10, "photos", None)


def test_a_name_asked_for_while_it_is_looked_at_comes_up_again_afterwards():
    agenda = Agenda()
    agenda.add("photos", 0)
    agenda.take(0)
    agenda.add("photos", 0)
    assert agenda.take(0) is None
    assert agenda.wait_ms(0) is None
    agenda.done("photos")
    assert agenda.take(0) == "photos"


def test_names_that_wait_longest_come_first():
    agenda = Agenda()
    agenda.add("late", 5)
    agenda.add("early", 3)
    assert [agenda.take(9), agenda.take(9)] == ["early", "late"]
