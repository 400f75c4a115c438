from okiba.core.liveness import Liveness


def test_a_worker_is_deaf_when_no_task_came_for_a_minute_though_the_broker_answered():
    liveness = Liveness(now=0)
    assert (liveness.deaf(60), liveness.deaf(61)) == (False, True)


def test_a_task_that_ended_shows_that_tasks_arrive():
    liveness = Liveness(now=0)
    liveness.began()
    liveness.ended(now=50)
    assert (liveness.deaf(110), liveness.deaf(111)) == (False, True)


def test_a_worker_with_a_long_task_is_not_deaf():
    liveness = Liveness(now=0)
    liveness.began()
    assert not liveness.deaf(500)


def test_a_broker_that_is_away_is_not_the_workers_fault():
    liveness = Liveness(now=0)
    liveness.broker_away(now=1_000)
    assert (liveness.deaf(1_060), liveness.deaf(1_061)) == (False, True)


def test_a_worker_is_not_deaf_while_nothing_waits_for_it():
    liveness = Liveness(now=0)
    liveness.nothing_waits(now=50)
    assert (liveness.deaf(110), liveness.deaf(111)) == (False, True)
