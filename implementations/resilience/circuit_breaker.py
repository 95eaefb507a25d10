"""A circuit breaker: blocks calls to a failing dependency, probes it after a while, and can be forced open or closed.

Closed: calls pass and their outcomes are counted. Open: none passes until the open time is over; the next call is then
the probe of the half-open circuit. Enough good probes close the circuit, one bad probe opens it for longer.
A permit reports exactly one outcome; a report from before the last transition (an older generation) is ignored. A
failure is overtaken if a call that began later has already succeeded. It is then not one in a row, unless the rules say
otherwise, and counts only for the rate: a timeout comes long after the hang that caused it, which may be over.
It knows nothing about providers: its caller decides what counts as a failure. Time is monotonic seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from api_models import CircuitState
from implementations.resilience.failure_window import FailureWindow
from protocols import ClockProtocol

LONGEST_ASKED_S = 3600.0
EXTRA_PROBE_S = 5.0
OWN_DECISION = "service"  # the actor of a hold that no administrator ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRules:
    """failure_threshold: failures in a row that open it; so does half of fewest_calls or more that fail in a minute.

    recovery_s: the first open time, which doubles with each opening up to longest_open_s.

    probe_s: how long a call may take; a probe that takes much longer has failed.

    counts: False if only orders move the circuit, whatever its calls report.

    counts_overtaken: whether an overtaken failure is one in a row: where failures come soon after their cause.
    """

    counts: bool = True
    counts_overtaken: bool = False
    failure_threshold: int = 5
    fewest_calls: int = 5
    recovery_s: float = 30.0
    longest_open_s: float = 300.0
    success_threshold: int = 2
    probe_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The state that a circuit was forced into, and is held in. until_s: when that ends, None for never."""

    state: CircuitState
    reason: str
    actor: str
    until_s: float | None


class Refused(Exception):  # noqa: N818  not an error: the answer to a request for a permit
    """No call may pass now. wait_s: until one may, infinite if only a reset can end it.

    reason: why it is held open, None if it is not. is_probed: a probe is under way, which may end at any moment.
    """

    def __init__(self, wait_s: float, reason: str | None, *, is_probed: bool = False) -> None:
        super().__init__("the circuit is open")
        self.wait_s = wait_s
        self.reason = reason
        self.is_probed = is_probed


class Permit:
    """The right to one call. Only its first report counts, and only until the circuit's next transition.

    number: those of later calls are higher.
    """

    def __init__(self, breaker: "CircuitBreaker | None", generation: int, number: int = 0) -> None:
        self._breaker = breaker
        self._generation = generation
        self._number = number

    def succeeded(self) -> None:
        """The call succeeded."""
        if breaker := self._used():
            breaker.report_success(self._number)

    def failed(self, *, retry_after_s: float = 0.0) -> bool:
        """The call failed. True if this failure opened the circuit."""
        breaker = self._used()
        return breaker is not None and breaker.report_failure(self._number, retry_after_s)

    def failed_lastingly(self, *, reason: str, for_s: float) -> bool:
        """The call failed, and others would for long. True if this forced the circuit open; a held one stays."""
        breaker = self._used()
        return breaker is not None and breaker.report_lasting_failure(reason, for_s)

    def ignored(self) -> None:
        """The call says nothing about the dependency. A no-op after another report, so it is safe in a `finally`."""
        if breaker := self._used():
            breaker.report_ignored()

    def _used(self) -> "CircuitBreaker | None":
        breaker, self._breaker = self._breaker, None
        return breaker if breaker is not None and breaker.is_current(self._generation) else None


class CircuitBreaker:
    """jitter: draws a number between its two bounds. on_transition: called with old and new state, once per change."""

    def __init__(
        self,
        rules: CircuitRules,
        *,
        clock: ClockProtocol,
        jitter: Callable[[float, float], float],
        on_transition: Callable[[CircuitState, CircuitState], None],
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._jitter = jitter
        self._on_transition = on_transition
        self._state = CircuitState.CLOSED
        self._generation = 0
        self._window = FailureWindow()
        self._permits = self._newest_success = 0
        self._consecutive_failures = 0
        self._openings = 0
        self._open_until_s = 0.0
        self._good_probes = 0
        self._probe_since_s: float | None = None
        self._hold: Hold | None = None

    @property
    def state(self) -> CircuitState:
        """The state in force. Transitions are lazy: an open circuit stays open until a call tries it."""
        self._notice_time()
        return self._state

    @property
    def hold(self) -> Hold | None:
        """The state in which it is held, whatever its traffic, if it is."""
        self._notice_time()
        return self._hold

    def refusal(self) -> Refused | None:
        """Why a call would be refused now; None if it would pass. Only applies transitions that are due by time."""
        now_s = self._notice_time()
        if self._hold is not None:
            return self._refusal_while_held(self._hold, now_s)
        if self._state is CircuitState.OPEN and now_s < self._open_until_s:
            return Refused(self._open_until_s - now_s, None)
        if self._probe_since_s is not None:
            return Refused(self._probe_since_s + self._longest_probe_s - now_s, None, is_probed=True)
        return None

    def acquire(self) -> Permit:
        """A permit for one call, whose outcome must be reported. Raises Refused."""
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        if self._state is CircuitState.OPEN:
            self._enter(CircuitState.HALF_OPEN)
        if self._state is CircuitState.HALF_OPEN:
            self._probe_since_s = self._clock()
        self._permits += 1
        return Permit(self if self._rules.counts else None, self._generation, self._permits)

    def force(self, state: CircuitState, *, reason: str, actor: str, for_s: float | None = None) -> None:
        """Force the circuit open or closed, whatever its traffic, for for_s seconds or until reset."""
        now_s = self._notice_time()
        until_s = None if for_s is None else now_s + for_s
        self._hold = Hold(state=state, reason=reason, actor=actor, until_s=until_s)
        self._enter(state)

    def reset(self) -> None:
        """Close the circuit; end any hold and clear all counts."""
        self._notice_time()
        self._hold = None
        self._enter(CircuitState.CLOSED)

    def is_current(self, generation: int) -> bool:
        """For permits, like the four reports below: whether there was no transition since this generation began."""
        self._notice_time()
        return generation == self._generation

    def report_success(self, number: int) -> None:
        """Count it; enough good probes close the circuit."""
        if self._state is CircuitState.HALF_OPEN:
            self._probe_since_s = None
            self._good_probes += 1
            if self._good_probes >= self._rules.success_threshold:
                self._enter(CircuitState.CLOSED)
        else:
            self._consecutive_failures = 0
            self._newest_success = max(self._newest_success, number)
            self._window.count(self._clock(), failed=False)

    def report_failure(self, number: int, retry_after_s: float) -> bool:
        """Count it; True if it opened the circuit."""
        if self._hold is not None:
            return False
        if self._state is CircuitState.HALF_OPEN:
            self._open(retry_after_s)
            return True
        now_s, rules = self._clock(), self._rules
        self._consecutive_failures += rules.counts_overtaken or number > self._newest_success
        self._window.count(now_s, failed=True)
        if self._consecutive_failures >= rules.failure_threshold or self._window.is_bad(now_s, rules.fewest_calls):
            self._open(retry_after_s)
            return True
        return False

    def report_lasting_failure(self, reason: str, for_s: float) -> bool:
        """Force the circuit open, unless it is held already; True if so."""
        if self._hold is not None:
            return False
        self.force(CircuitState.OPEN, reason=reason, actor=OWN_DECISION, for_s=for_s)
        return True

    def report_ignored(self) -> None:
        """Let another call be the probe."""
        self._probe_since_s = None

    @property
    def _longest_probe_s(self) -> float:
        return self._rules.probe_s + EXTRA_PROBE_S

    def _notice_time(self) -> float:
        """Apply transitions due by time (a hold ends, a lost probe counts as failed); return the time."""
        now_s = self._clock()
        hold = self._hold
        if hold is not None and hold.until_s is not None and now_s >= hold.until_s:
            self._hold = None
            self._start(hold.state)
            self._open_until_s = now_s  # a circuit that was held open is tried before it is trusted
            if not self._rules.counts:
                self._enter(CircuitState.CLOSED)
        if self._probe_since_s is not None and now_s >= self._probe_since_s + self._longest_probe_s:
            self._open(0.0)
        return now_s

    def _refusal_while_held(self, hold: Hold, now_s: float) -> Refused | None:
        if hold.state is CircuitState.CLOSED:
            return None
        return Refused(inf if hold.until_s is None else hold.until_s - now_s, hold.reason)

    def _open(self, retry_after_s: float) -> None:
        """Open for a jittered time, at least for the dependency's Retry-After."""
        longest_s = min(self._rules.recovery_s * 2.0**self._openings, self._rules.longest_open_s)
        open_s = max(self._jitter(longest_s / 2, longest_s), min(retry_after_s, LONGEST_ASKED_S))
        self._openings = min(self._openings + 1, 32)
        self._open_until_s = self._clock() + open_s
        self._enter(CircuitState.OPEN)

    def _enter(self, state: CircuitState) -> None:
        """Start in this state, and report the transition if there is one."""
        before = self._state
        self._start(state)
        if before is not state:
            self._on_transition(before, state)

    def _start(self, state: CircuitState) -> None:
        self._state = state
        self._generation += 1
        if state is CircuitState.CLOSED:
            self._openings = 0
        self._window = FailureWindow()
        self._consecutive_failures = self._good_probes = 0
        self._probe_since_s = None
