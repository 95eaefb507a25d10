"""The service's own tasks: whatever kills one, it comes back, and everybody can see that it was away."""

import asyncio
from itertools import pairwise

from structlog.testing import capture_logs

from implementations.background.supervisor import LONGEST_RESTART_S, Supervisor
from tests.fakes import Clock, InstantSleep, Timeline, new_metrics, sample, settle


class Work:
    """Dies so many times, then runs."""

    def __init__(self, deaths: int) -> None:
        self.starts = 0
        self._deaths = deaths

    async def __call__(self) -> None:
        self.starts += 1
        if self.starts <= self._deaths:
            raise ValueError("a defect")
        await asyncio.Event().wait()


async def test_a_task_that_dies_is_started_again_after_growing_waits() -> None:
    sleep, work, metrics = InstantSleep(), Work(deaths=8), new_metrics()
    supervisor = Supervisor({"work": work}, metrics=metrics, clock=Clock(), sleep=sleep)
    supervisor.start()
    await settle()
    await settle()

    assert work.starts == 9
    assert sleep.naps == [1.0, 2.0, 4.0, 8.0, 16.0, *[LONGEST_RESTART_S] * 3]
    assert supervisor.down == frozenset()
    assert sample(metrics, "llm_provider_background_task_up", task="work") == 1.0
    assert sample(metrics, "llm_provider_background_task_deaths_total", task="work") == 8.0
    await supervisor.stop()


async def test_what_became_of_a_task_is_one_line_without_the_text_of_its_error() -> None:
    ended = asyncio.Event()

    async def ends() -> None:
        if ended.is_set():
            await asyncio.Event().wait()
        ended.set()

    supervisor = Supervisor(
        {"dying": Work(deaths=1), "ending": ends}, metrics=new_metrics(), clock=Clock(), sleep=InstantSleep()
    )
    with capture_logs() as lines:
        supervisor.start()
        await settle()
    await supervisor.stop()

    assert isinstance(lines[0].pop("exc_info"), ValueError)
    assert lines == [
        {"event": "background_task_died", "log_level": "error", "task": "dying"},
        {"event": "background_task_ended", "log_level": "error", "task": "ending"},
    ]


async def test_a_task_that_ends_with_what_it_waited_for_is_started_again() -> None:
    sleep, metrics = InstantSleep(), new_metrics()
    starts: list[asyncio.Future[None]] = []

    async def work() -> None:
        starts.append(asyncio.get_running_loop().create_future())
        await starts[-1]

    supervisor = Supervisor({"work": work}, metrics=metrics, clock=Clock(), sleep=sleep)
    supervisor.start()
    await settle()
    starts[0].cancel()
    await settle()

    assert len(starts) == 2
    assert sample(metrics, "llm_provider_background_task_deaths_total", task="work") == 1.0
    await supervisor.stop()
    assert starts[1].cancelled()


async def test_a_group_of_tasks_of_which_one_dies_is_started_again() -> None:
    metrics = new_metrics()
    starts: list[asyncio.Event] = []

    async def dying(dies: asyncio.Event) -> None:
        await dies.wait()
        raise ValueError("a defect")

    async def work() -> None:
        starts.append(asyncio.Event())
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            group.create_task(dying(starts[-1]))

    supervisor = Supervisor({"work": work}, metrics=metrics, clock=Clock(), sleep=InstantSleep())
    supervisor.start()
    await settle()
    for deaths in (1, 2):
        starts[-1].set()
        await settle()
        assert len(starts) == 1 + deaths
        assert sample(metrics, "llm_provider_background_task_deaths_total", task="work") == deaths
    await supervisor.stop()


async def test_a_task_that_ran_well_for_a_while_is_started_again_soon() -> None:
    time = Timeline()
    deaths_s: list[float] = []

    async def work() -> None:
        await time.sleep(LONGEST_RESTART_S if len(deaths_s) % 3 == 0 else 0.5)
        deaths_s.append(time())
        raise ValueError("a defect")

    supervisor = Supervisor({"work": work}, metrics=new_metrics(), clock=time, sleep=time.sleep)
    supervisor.start()
    await time.pass_until(time() + 110)
    await supervisor.stop()

    waits_s = [after - before for before, after in pairwise(deaths_s)]
    assert waits_s[:6] == [1.5, 2.5, 4.0 + LONGEST_RESTART_S] * 2


async def test_a_task_that_is_away_is_named() -> None:
    async def endless(_: float) -> None:
        await asyncio.Event().wait()

    metrics = new_metrics()
    supervisor = Supervisor(
        {"work": Work(deaths=1), "other": Work(deaths=0)}, metrics=metrics, clock=Clock(), sleep=endless
    )
    supervisor.start()
    await settle()

    assert supervisor.down == {"work"}
    assert sample(metrics, "llm_provider_background_task_up", task="work") == 0.0
    assert sample(metrics, "llm_provider_background_task_deaths_total", task="work") == 1.0
    assert sample(metrics, "llm_provider_background_task_deaths_total", task="other") == 0.0
    await supervisor.stop()


async def test_stopping_ends_every_task() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await settle()  # it takes a while
            ended.append("work")

    supervisor = Supervisor({"work": work}, metrics=new_metrics(), clock=Clock(), sleep=InstantSleep())
    supervisor.start()
    await settle()
    await supervisor.stop()

    assert ended == ["work"]


async def test_a_supervisor_that_was_never_started_can_be_stopped() -> None:
    await Supervisor({}, metrics=new_metrics(), clock=Clock(), sleep=InstantSleep()).stop()
