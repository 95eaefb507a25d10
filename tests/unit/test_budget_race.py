"""Two replicas that do what Hypothesis draws: no cent is lost, and none spent twice."""

import asyncio
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_models import AttemptOutcome
from implementations.accounting.money import micro_usd
from protocols import Reservation
from tests.fake_shared_budget import NOTHING
from tests.fakes import settle
from tests.fleet import CENT, DAY, Fleet, bought

pytestmark = pytest.mark.usefixtures("redis_timeout_s")

Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["reserve", "settle", "refresh", "away", "back", "lose", "keep", "save", "go back", "forget"],
        ),
        st.integers(0, 1),
        st.integers(0, 10 * CENT),
    ),
    max_size=40,
)


class Race:
    """Two replicas that do what is drawn, some of it at once."""

    def __init__(self) -> None:
        self.fleet = Fleet(day=0.5)
        self.open: list[tuple[int, Reservation]] = []
        self.spent = 0
        self.saved = self.fleet.store.snapshot()

    async def does(self, step: Step) -> None:
        verb, who, amount = step
        store = self.fleet.store
        match verb:
            case "reserve":
                for one in await asyncio.gather(*(self.fleet.reserves(who) for _ in range(1 + amount % 3))):
                    if one is not None:
                        self.open.append((who, one))
            case "settle" if self.open:
                who, reservation = self.open.pop(amount % len(self.open))
                self.spent += amount
                self.fleet.budgets[who].settle(reservation, AttemptOutcome.SUCCESS, bought(amount / 1e6))
            case "refresh":
                await self.fleet.budgets[who].refresh()
            case "away" | "back":
                store.away = verb == "away"
            case "lose" | "keep":
                store.loses_answers = verb == "lose"
            case "save":
                self.saved = store.snapshot()
            case "go back" | "forget":
                store.restore(self.saved if verb == "go back" else NOTHING)

    @property
    def held(self) -> int:
        return self.spent + sum(one.ceiling for _, one in self.open)


@given(STEPS)
async def test_reserved_is_settled_plus_open_whatever_redis_does(steps: list[Step]) -> None:
    race = Race()
    for step in steps:
        await race.does(step)
    race.fleet.store.away = race.fleet.store.loses_answers = False
    for _ in range(2):
        for one in race.fleet.budgets:
            await settle()
            await one.refresh()
    assert race.fleet.store.held.get(DAY, 0) == race.held
    assert race.fleet.store.spent.get(DAY, 0) == race.spent


@given(STEPS, st.lists(st.integers(1, 6), min_size=1, max_size=20))
async def test_two_replicas_that_race_for_the_last_cent_never_overspend_while_redis_answers(
    steps: list[Step], turns: list[int]
) -> None:
    race = Race()
    race.fleet.store.turns = cycle(turns)
    for step in steps:
        if step[0] not in {"away", "lose", "go back", "forget"}:
            await race.does(step)
            assert race.held <= micro_usd(0.5)
            assert race.fleet.store.held.get(DAY, 0) <= micro_usd(0.5)
