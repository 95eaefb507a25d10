"""Administrators hold circuits open or closed, in all replicas, whatever traffic says."""

from dataclasses import dataclass, field, replace
from uuid import uuid4

import orjson
import pytest
from structlog.testing import capture_logs

from api_models import AdminAction, CircuitOrder, CircuitResponse, CircuitState, ForcedState, ProviderName, UsageScope
from exceptions import InvalidQueryError
from implementations.circuit_steering_impl import CircuitSteeringImpl
from implementations.resilience.circuit_breaker import OWN_DECISION, Refused
from metrics import Metrics
from protocols import Administrator
from tests.fakes import Calendar, Clock, guards, new_metrics, sample
from tests.steering_fakes import ADMIN, FakeAudit, FakeDocument

OPENAI, GOOGLE = ProviderName.OPENAI, ProviderName.GOOGLE
OPEN, CLOSED = CircuitState.OPEN, CircuitState.CLOSED
SECRET = "kanarienvogel-of-openai"  # noqa: S105  it opens nothing


@dataclass
class Replica:
    """One replica's circuits, and what it told."""

    document: FakeDocument | None = field(default_factory=FakeDocument)
    clock: Clock = field(default_factory=Clock)
    calendar: Calendar = field(default_factory=Calendar)
    metrics: Metrics = field(default_factory=new_metrics)

    def __post_init__(self) -> None:
        """All circuits closed."""
        self.audit = FakeAudit()
        self.guards = guards(self.metrics, self.clock)
        self.circuits = {name: one.circuit for name, one in self.guards.items()}
        self.steering = CircuitSteeringImpl(
            self.guards,
            document=self.document,
            secrets=frozenset({SECRET}),
            audit=self.audit,
            metrics=self.metrics,
            clock=self.clock,
            now_s=lambda: self.calendar().timestamp(),
        )

    async def forces(
        self,
        state: ForcedState,
        *,
        for_s: float | None = None,
        reason: str = "a reason",
        by: Administrator = ADMIN,
    ) -> CircuitResponse:
        return await self.steering.force(OPENAI, CircuitOrder(state=state, reason=reason, for_s=for_s), by=by)

    async def looks(self) -> CircuitState:
        await self.steering.poll()
        return self.circuits[OPENAI].state

    def waits(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.calendar.move(seconds=seconds)

    def fails(self, times: int = 5) -> None:
        for _ in range(times):
            self.circuits[OPENAI].acquire().failed()


def other_replica(of: Replica) -> Replica:
    return Replica(document=of.document, calendar=of.calendar)


async def test_a_circuit_is_held_open_everywhere_and_says_by_whom() -> None:
    here = Replica()
    there = other_replica(here)
    told = await here.forces(ForcedState.OPEN, for_s=600)
    assert await there.looks() is OPEN
    assert told == CircuitResponse(
        provider=OPENAI,
        circuit_breaker_state=OPEN,
        forced=True,
        reason="a reason",
        actor=ADMIN.actor,
        expires_in_s=600.0,
        scope=UsageScope.FLEET,
    )
    assert there.steering.report_of(OPENAI) == told
    assert there.circuits[GOOGLE].state is CLOSED
    with pytest.raises(Refused) as refused:
        there.circuits[OPENAI].acquire()
    assert refused.value.reason == "a reason"
    assert (len(here.audit.told), len(there.audit.told)) == (1, 0)


async def test_a_circuit_that_is_held_closed_survives_failures() -> None:
    here = Replica()
    here.fails()
    assert here.circuits[OPENAI].state is OPEN
    await here.forces(ForcedState.CLOSED)
    here.fails(20)
    assert here.circuits[OPENAI].state is CLOSED


async def test_an_order_is_followed_once_so_what_happens_here_stays_here() -> None:
    here = Replica()
    there = other_replica(here)
    await here.forces(ForcedState.OPEN)
    await there.looks()
    there.circuits[OPENAI].reset()
    await here.steering.reset(GOOGLE, by=ADMIN)
    assert await there.looks() is CLOSED
    await here.forces(ForcedState.OPEN, by=replace(ADMIN, request_id=uuid4()))
    assert await there.looks() is OPEN


async def test_a_reset_forgets_in_every_replica_what_was_forced_and_what_was_counted() -> None:
    here = Replica()
    there = other_replica(here)
    there.circuits[OPENAI].force(OPEN, reason="authentication", actor=OWN_DECISION, for_s=300)
    here.fails(4)
    told = await here.steering.reset(OPENAI, by=ADMIN)
    assert (told.circuit_breaker_state, told.forced, told.actor) == (CLOSED, False, None)
    assert await there.looks() is CLOSED
    assert there.circuits[OPENAI].hold is None
    here.fails(4)
    assert here.circuits[OPENAI].state is CLOSED


async def test_a_reset_lifts_a_throttle_pause_in_every_replica_and_no_other_order_does() -> None:
    here = Replica()
    there = other_replica(here)
    for replica in (here, there):
        for provider in (OPENAI, GOOGLE):
            replica.guards[provider].gate.pause(3600)
    await here.forces(ForcedState.OPEN)
    await there.looks()
    assert there.guards[OPENAI].gate.remaining_s == 3600
    await here.steering.reset(OPENAI, by=ADMIN)
    await there.looks()
    for replica in (here, there):
        assert (replica.guards[OPENAI].gate.remaining_s, replica.guards[GOOGLE].gate.remaining_s) == (0, 3600)


async def test_what_the_service_decides_itself_stays_local() -> None:
    here = Replica()
    there = other_replica(here)
    here.circuits[OPENAI].force(OPEN, reason="quota", actor=OWN_DECISION, for_s=300)
    await here.steering.poll()
    assert await there.looks() is CLOSED
    assert here.steering.report_of(OPENAI).actor == OWN_DECISION


async def test_the_time_goes_on_while_a_replica_is_started_again() -> None:
    here = Replica()
    await here.forces(ForcedState.OPEN, for_s=600)
    here.waits(500)
    again = other_replica(here)
    assert await again.looks() is OPEN
    assert again.steering.report_of(OPENAI).expires_in_s == 100.0
    again.waits(101)
    assert again.circuits[OPENAI].hold is None
    late = other_replica(here)
    assert await late.looks() is CLOSED


async def test_a_replica_whose_clock_is_behind_holds_no_longer_than_was_ordered() -> None:
    here = Replica()
    behind = Replica(document=here.document)
    behind.calendar.move(seconds=-86_400)
    await here.forces(ForcedState.OPEN, for_s=600)
    await behind.looks()
    assert behind.steering.report_of(OPENAI).expires_in_s == 600.0


async def test_an_order_whose_time_is_over_ends_the_one_before() -> None:
    here = Replica()
    there = other_replica(here)
    await here.forces(ForcedState.CLOSED)
    await there.looks()
    await here.forces(ForcedState.OPEN, for_s=1)
    here.waits(2)
    assert await there.looks() is CLOSED
    assert there.circuits[OPENAI].hold is None


async def test_without_redis_an_order_holds_here() -> None:
    alone = Replica(document=None)
    told = await alone.forces(ForcedState.OPEN)
    assert (told.circuit_breaker_state, told.scope) == (OPEN, UsageScope.REPLICA)


async def test_while_redis_is_away_orders_hold_and_are_told_later() -> None:
    document = FakeDocument(away=True)
    here = Replica(document=document)
    there = other_replica(here)
    await here.forces(ForcedState.OPEN)
    assert await there.looks() is CLOSED
    document.away = False
    await here.looks()
    assert await there.looks() is OPEN


@pytest.mark.parametrize("stored", [1, {}, {"state": "half_open"}, {"state": "open", "reason": 1}])
async def test_what_is_no_order_is_left_out_and_counted(stored: object) -> None:
    text = orjson.dumps({"version": 3, "values": {OPENAI.value: stored, "somebody": stored}})
    replica = Replica(document=FakeDocument(text=text))
    assert await replica.looks() is CLOSED
    assert sample(replica.metrics, "llm_provider_config_reload_errors_total", source="stored") == 1
    assert sample(replica.metrics, "llm_provider_stored_values_left_out", what="circuits") == 1
    await replica.steering.reset(OPENAI, by=ADMIN)
    assert sample(replica.metrics, "llm_provider_stored_values_left_out", what="circuits") == 0


async def test_an_order_whose_time_is_over_leaves_the_service_its_own_decision() -> None:
    here = Replica()
    there = other_replica(here)
    await here.forces(ForcedState.OPEN, for_s=1)
    here.waits(2)
    there.circuits[OPENAI].force(OPEN, reason="quota", actor=OWN_DECISION, for_s=300)
    assert await there.looks() is OPEN


async def test_an_order_that_is_gone_from_redis_ends() -> None:
    here = Replica()
    await here.forces(ForcedState.OPEN)
    assert here.document is not None
    here.document.text = orjson.dumps({"version": 9, "values": {}})
    assert await here.looks() is CLOSED


async def test_who_ordered_what_is_told_before_and_after() -> None:
    here = Replica()
    await here.forces(ForcedState.OPEN, for_s=60)
    await here.steering.reset(OPENAI, by=ADMIN)
    closed = {"circuit_breaker_state": "closed", "reason": None, "expires_in_s": None}
    held = {"circuit_breaker_state": "open", "reason": "a reason", "expires_in_s": 60.0}
    assert here.audit.told == [
        (ADMIN.actor, AdminAction.CIRCUIT_FORCED, OPENAI, closed, held),
        (ADMIN.actor, AdminAction.CIRCUIT_RESET, OPENAI, held, closed),
    ]


async def test_a_reason_that_holds_a_key_is_refused() -> None:
    here = Replica()
    with pytest.raises(InvalidQueryError) as refusal:
        await here.forces(ForcedState.OPEN, reason=f"it refuses {SECRET}")
    assert SECRET not in refusal.value.details
    assert here.circuits[OPENAI].state is CLOSED


async def test_what_was_in_force_before_is_what_another_replica_had_ordered() -> None:
    there = Replica()
    here = other_replica(there)
    await there.forces(ForcedState.OPEN)
    await here.forces(ForcedState.CLOSED)
    ((_, _, _, old, _),) = here.audit.told
    assert old == {"circuit_breaker_state": "open", "reason": "a reason", "expires_in_s": None}


async def test_what_comes_from_another_replica_is_told_by_name() -> None:
    there = Replica()
    here = other_replica(there)
    await there.forces(ForcedState.OPEN)
    with capture_logs() as lines:
        await here.looks()
        await here.looks()
    (line,) = [line for line in lines if line["event"] == "operator_values_adopted"]
    assert (line["what"], line["edition"], line["changed"]) == ("circuits", 1, ["openai"])
