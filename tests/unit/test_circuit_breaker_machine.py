"""Any order of events, in virtual time: the circuit breaker against a model that is written another way.

The model knows no generations, only which permits still count; no buckets, only a list of calls. Pauses are whole
seconds, and the jitter keeps them whole, so that the figures of both must be equal and not merely close.
"""

from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from api_models import CircuitState
from implementations.resilience.circuit_breaker import CircuitBreaker, CircuitRules, Permit, Refused
from tests.fakes import Clock

pytestmark = pytest.mark.untraced

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

RULES = CircuitRules(failure_threshold=4, recovery_s=20.0, success_threshold=2, probe_s=10.0)
LOST_AFTER_S = 15
LONGEST_ORDINARY_S = 300
LONGEST_ASKED_S = 3600

UNTIL_A_CALL_MAY_PASS = -1
PAUSES = st.sampled_from([0, 0, 0, 0, 1, 14, 15, 59, 60, 300, *[UNTIL_A_CALL_MAY_PASS] * 4])
DURATIONS = st.sampled_from([None, 1, 30, 600])
LUCK = st.sampled_from([0.0, 0.5, 1.0])
ASKED = st.sampled_from([0, 0, 0, 35, 900, 10_000])
SEVERAL = st.integers(1, 6)
WHICH = st.lists(st.integers(0, 11), min_size=1, max_size=6)


@dataclass(eq=False)
class Ticket:
    """A permit, and how many transitions had been told when it was given."""

    permit: Permit
    transitions: int
    reported: bool = False


@dataclass
class Model:
    """What the circuit must be.

    begun: all tickets, in order; counting: those whose report says something about the present. calls: those that have
    been reported since the last transition, when, whether they failed, and their tickets.
    """

    state: CircuitState = CLOSED
    told: list[tuple[CircuitState, CircuitState]] = field(default_factory=list)
    counting: set[Ticket] = field(default_factory=set)
    begun: list[Ticket] = field(default_factory=list)
    calls: list[tuple[float, bool, Ticket]] = field(default_factory=list)
    good_probes: int = 0
    openings: int = 0
    open_until_s: float = -inf
    probe_lost_s: float = inf
    forced: bool = False
    forced_until_s: float = inf

    def become(self, state: CircuitState) -> None:
        if state is not self.state:
            self.told.append((self.state, state))
        self.state = state
        self.counting, self.calls, self.good_probes, self.probe_lost_s = set(), [], 0, inf
        if state is CLOSED:
            self.openings = 0

    def open(self, now_s: float, luck: float, asked_s: float) -> None:
        longest_s = min(20 * 2**self.openings, LONGEST_ORDINARY_S)
        self.open_until_s = now_s + max(longest_s * (1 + luck) / 2, min(asked_s, LONGEST_ASKED_S))
        self.openings += 1
        self.become(OPEN)

    def reach(self, now_s: float, luck: float) -> None:
        if self.forced and now_s >= self.forced_until_s:
            self.forced, self.open_until_s = False, now_s
            self.become(self.state)
        if now_s >= self.probe_lost_s:
            self.open(now_s, luck, 0)

    def wait_s(self, now_s: float) -> float | None:
        """None when a call may pass."""
        if self.forced and self.state is OPEN:
            return self.forced_until_s - now_s
        if self.state is OPEN and now_s < self.open_until_s:
            return self.open_until_s - now_s
        if self.probe_lost_s < inf:
            return self.probe_lost_s - now_s
        return None

    def force(self, state: CircuitState, until_s: float) -> None:
        self.forced, self.forced_until_s = True, until_s
        self.become(state)

    def reset(self) -> None:
        self.forced = False
        self.become(CLOSED)

    def begin(self, ticket: Ticket, now_s: float) -> None:
        if self.state is not CLOSED:
            if self.state is OPEN:
                self.become(HALF_OPEN)
            self.probe_lost_s = now_s + LOST_AFTER_S
        self.begun.append(ticket)
        if not self.forced:
            self.counting.add(ticket)

    def end(self, ticket: Ticket) -> bool:
        """Whether its report counts."""
        counts = ticket in self.counting
        self.counting.discard(ticket)
        if counts and self.state is HALF_OPEN:
            self.probe_lost_s = inf
        return counts

    def succeed(self, ticket: Ticket, now_s: float) -> None:
        if not self.end(ticket):
            return
        self.calls.append((now_s, False, ticket))
        self.good_probes += self.state is HALF_OPEN
        if self.good_probes == 2:
            self.become(CLOSED)

    def fail(self, ticket: Ticket, now_s: float, luck: float, asked_s: float) -> bool:
        if not self.end(ticket):
            return False
        self.calls.append((now_s, True, ticket))
        recent = [failed for at_s, failed, _ in self.calls if now_s - at_s < 60]
        row = [failed for place, (_, failed, _) in enumerate(self.calls) if not self.is_overtaken(place)][-4:]
        in_a_row = len(row) == 4 and all(row) and not self.is_overtaken(len(self.calls) - 1)
        opens = self.state is HALF_OPEN or in_a_row or (len(recent) >= 5 and sum(recent) * 2 >= len(recent))
        if opens:
            self.open(now_s, luck, asked_s)
        return opens

    def is_overtaken(self, place: int) -> bool:
        """Whether this call failed after one that began later had succeeded."""
        _, failed, ticket = self.calls[place]
        later = self.begun[self.begun.index(ticket) :]
        return failed and any(not one_failed and one in later for _, one_failed, one in self.calls[:place])

    def fail_lastingly(self, ticket: Ticket, until_s: float) -> bool:
        counts = self.end(ticket)
        if counts:
            self.force(OPEN, until_s)
        return counts


class CircuitMachine(RuleBasedStateMachine):
    """Every rule does the same to both; the invariants compare what they show."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.luck = 1.0
        self.told: list[tuple[CircuitState, CircuitState]] = []
        self.held: list[Ticket] = []
        self.model = Model()
        self.breaker = CircuitBreaker(
            RULES,
            clock=self.clock,
            jitter=self.jitter,
            on_transition=lambda before, after: self.told.append((before, after)),
        )

    def jitter(self, low: float, high: float) -> float:
        assert low == high / 2
        assert 20 <= high <= LONGEST_ORDINARY_S
        return low + (high - low) * self.luck

    def pause(self, seconds: float) -> None:
        """Nobody looks at the circuit meanwhile: the next thing that is done to it must notice by itself."""
        told_s = self.model.wait_s(self.clock()) or 0
        told_s = RULES.recovery_s if told_s == inf else told_s
        self.clock.advance(told_s if seconds == UNTIL_A_CALL_MAY_PASS else seconds)
        self.model.reach(self.clock(), self.luck)

    def answer(self) -> Permit | float:
        """The permit, or how long it is refused."""
        try:
            return self.breaker.acquire()
        except Refused as refusal:
            return refusal.wait_s

    def ask_once(self) -> Ticket | None:
        wait_s = self.model.wait_s(self.clock())
        answer = self.answer()
        if not isinstance(answer, Permit):
            assert answer == wait_s
            return None
        assert wait_s is None
        assert self.breaker.state is not OPEN
        ticket = Ticket(answer, transitions=len(self.told))
        self.model.begin(ticket, self.clock())
        return ticket

    def succeed_once(self, ticket: Ticket) -> None:
        ticket.permit.succeeded()
        self.model.succeed(ticket, self.clock())
        ticket.reported = True

    def fail_once(self, ticket: Ticket, asked_s: float = 0) -> None:
        opened = ticket.permit.failed(retry_after_s=asked_s)
        assert opened == self.model.fail(ticket, self.clock(), self.luck, asked_s)
        ticket.reported = True

    def latest(self, which: list[int]) -> list[Ticket]:
        """Counted from the last one; the same one may come twice."""
        return [self.held[-1 - back] for back in which if back < len(self.held)]

    @rule(pause_s=PAUSES, luck=LUCK)
    def idle(self, pause_s: float, luck: float) -> None:
        self.luck = luck  # first: the circuit notices the pause only when it is looked at
        self.pause(pause_s)

    @rule(calls=SEVERAL, pause_s=PAUSES)
    def ask(self, calls: int, pause_s: float) -> None:
        """These calls take their time, and those that nothing is reported on are lost."""
        self.pause(pause_s)
        answers = [self.ask_once() for _ in range(calls)]
        self.held += [ticket for ticket in answers if ticket]

    @rule(which=WHICH, pause_s=PAUSES)
    def succeed(self, which: list[int], pause_s: float) -> None:
        self.pause(pause_s)
        for ticket in self.latest(which):
            self.succeed_once(ticket)

    @rule(which=WHICH, pause_s=PAUSES, asked_s=ASKED)
    def fail(self, which: list[int], pause_s: float, asked_s: float) -> None:
        self.pause(pause_s)
        for ticket in self.latest(which):
            self.fail_once(ticket, asked_s)

    @rule(which=WHICH, pause_s=PAUSES)
    def fail_lastingly(self, which: list[int], pause_s: float) -> None:
        self.pause(pause_s)
        for ticket in self.latest(which):
            forced = ticket.permit.failed_lastingly(reason="maintenance", for_s=300)
            assert forced == self.model.fail_lastingly(ticket, self.clock() + 300)
            ticket.reported = True

    @rule(which=WHICH, pause_s=PAUSES)
    def ignore(self, which: list[int], pause_s: float) -> None:
        self.pause(pause_s)
        told_by_time = list(self.model.told)
        for ticket in self.latest(which):
            ticket.permit.ignored()
            self.model.end(ticket)
            ticket.reported = True
        assert self.told == told_by_time[: len(self.told)]

    @rule(calls=SEVERAL, pause_s=PAUSES)
    def good_times(self, calls: int, pause_s: float) -> None:
        for _ in range(calls):
            self.pause(pause_s)
            if ticket := self.ask_once():
                self.succeed_once(ticket)

    @rule(calls=SEVERAL, pause_s=PAUSES)
    def bad_times(self, calls: int, pause_s: float) -> None:
        for _ in range(calls):
            self.pause(pause_s)
            if ticket := self.ask_once():
                self.fail_once(ticket)

    @rule(state=st.sampled_from([OPEN, CLOSED]), for_s=DURATIONS, pause_s=PAUSES)
    def force(self, state: CircuitState, for_s: float | None, pause_s: float) -> None:
        self.pause(pause_s)
        self.breaker.force(state, reason="maintenance", actor="operator", for_s=for_s)
        self.model.force(state, inf if for_s is None else self.clock() + for_s)

    @rule(pause_s=PAUSES)
    def reset(self, pause_s: float) -> None:
        self.pause(pause_s)
        self.breaker.reset()
        self.model.reset()

    @rule()
    def get_well(self) -> None:
        """Whatever happened, good calls and time close it: a lost probe, its open time and two good probes at most."""
        if self.model.forced and self.model.forced_until_s == inf:
            self.reset(pause_s=0)
        began_s = self.clock()
        for _ in range(4):
            if self.breaker.state is CLOSED:
                break
            if refusal := self.breaker.refusal():
                self.pause(refusal.wait_s)
            elif ticket := self.ask_once():
                self.succeed_once(ticket)
        assert self.breaker.state is CLOSED
        assert self.clock() - began_s <= LONGEST_ASKED_S

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        refusal = self.breaker.refusal()
        assert self.told == self.model.told
        assert self.breaker.state is self.model.state
        assert (self.breaker.hold is not None) == self.model.forced
        assert (None if refusal is None else refusal.wait_s) == self.model.wait_s(self.clock())
        assert refusal is None or refusal.reason == ("maintenance" if self.model.forced else None)

    @invariant()
    def it_refuses_only_for_a_time_that_is_bounded_unless_it_was_forced_open_for_ever(self) -> None:
        refusal = self.breaker.refusal()
        if refusal is not None:
            assert self.breaker.state is not CLOSED
            is_for_ever = self.model.forced and self.model.forced_until_s == inf
            assert 0 < refusal.wait_s <= (inf if is_for_ever else LONGEST_ASKED_S)

    @invariant()
    def it_has_at_most_one_probe_under_way(self) -> None:
        if self.breaker.state is HALF_OPEN:
            present = [ticket for ticket in self.held if ticket.transitions == len(self.told)]
            assert sum(not ticket.reported for ticket in present) <= 1


CircuitMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=50)
TestCircuitMachine = CircuitMachine.TestCase
