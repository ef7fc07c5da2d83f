"""When an engine is woken: near timers to the moment, far ones in steps that many share."""

import asyncio

from tests.identity.clock import run
from toxmesh.identity.wakes import Wakes


class Sleeper:
    """Is due once, and notes when it was woken."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.due: float | None = None
        self.woken: list[float] = []
        self.wakes = Wakes(self.loop, lambda: self.due, self._wake)

    def _wake(self, now: float) -> None:
        self.woken.append(now)
        if self.due is not None and self.due <= now:
            self.due = None
        self.wakes.plan()

    def plan(self, after: float) -> None:
        self.due = self.loop.time() + after
        self.wakes.plan()


def woken(*plans: float) -> list[float]:
    """Returns when one is woken that plans so, one time in place of the other."""

    async def sleep() -> list[float]:
        sleeper = Sleeper()
        begun = sleeper.loop.time()
        for after in plans:
            sleeper.plan(after)
        await asyncio.sleep(20)
        return [when - begun for when in sleeper.woken]

    return run(sleep())


def test_a_near_time_is_met_and_a_far_one_is_put_off_to_a_step() -> None:
    assert [round(when, 6) for when in woken(0.11)] == [0.11]
    assert [round(when, 6) for when in woken(3.01)] == [3.0625]


def test_a_later_time_is_moved_unless_it_is_but_little_later() -> None:
    assert woken(3.0, 7.0) == [7.0]
    assert woken(3.0, 3.25) == [3.0, 3.25]
    assert [round(when, 6) for when in woken(0.1, 0.3)] == [0.1, 0.3]
    assert woken(0.1, 4.0) == [4.0]


def test_an_earlier_time_takes_the_place_of_a_later_one() -> None:
    assert woken(7.0, 3.0) == [3.0]
    assert [round(when, 6) for when in woken(7.0, 0.1)] == [0.1]
    assert woken(7.0, 3.0, 7.0) == [7.0]


def test_those_that_are_due_in_one_step_are_woken_together_unless_closed() -> None:
    async def sleep() -> list[list[float]]:
        sleepers = [Sleeper() for _ in range(4)]
        for number, sleeper in enumerate(sleepers):
            sleeper.plan(3.01 + number / 100)
        sleepers[1].wakes.close()
        # closed by another in the same turn, when its own call is on its way already
        sleepers[2].loop.call_at(sleepers[2].loop.time() + 3.0625, sleepers[2].wakes.close)
        await asyncio.sleep(20)
        return [sleeper.woken for sleeper in sleepers]

    first, second, third, last = run(sleep())
    assert first == last == [1_003.0625]
    assert second == third == []
