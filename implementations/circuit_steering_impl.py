"""Forces circuits open or closed on an administrator's order, in all replicas; each applies an order once.

Circuits that the service itself forces open (refused key, exhausted quota), and all counts, stay local to the replica.
"""

from collections.abc import Callable, Sequence

import structlog
from pydantic import JsonValue

from api_models import AdminAction, CircuitOrder, CircuitResponse, CircuitState, ForcedState, ProviderName
from exceptions import InvalidQueryError
from implementations.resilience.circuit_breaker import OWN_DECISION
from implementations.resilience.provider_guards import Guards, ProviderGuards
from implementations.steering.orders import Order, order_of, stored_form
from implementations.steering.own_secrets import holds_secret
from implementations.steering.shared_values import Document, Edition, SharedValues, Values
from metrics import CIRCUITS, STORED, Metrics
from protocols import Administrator, AuditProtocol, ClockProtocol

log = structlog.get_logger("steering")


class CircuitSteeringImpl:
    """document: None without Redis. secrets: must not occur in a reason. clock: the circuits'; now_s: Unix seconds."""

    def __init__(
        self,
        guards: ProviderGuards,
        *,
        document: Document | None,
        secrets: frozenset[str],
        audit: AuditProtocol,
        metrics: Metrics,
        clock: ClockProtocol,
        now_s: Callable[[], float],
    ) -> None:
        self._guards = guards
        self._secrets = secrets
        self._audit = audit
        self._clock = clock
        self._now_s = now_s
        self._followed: dict[ProviderName, JsonValue] = {}
        self._left_out: set[ProviderName] = set()
        self._count_flaw = metrics.config_reload_errors.of(STORED).inc
        self._shared = SharedValues(CIRCUITS, document, take=self._take, on_flaw=self._count_flaw)
        metrics.stored_left_out.of(CIRCUITS).set_function(lambda: len(self._left_out) + self._shared.is_unreadable)

    async def poll(self) -> None:
        """Apply orders given to other replicas."""
        await self._shared.poll()

    async def report(self) -> Sequence[CircuitResponse]:
        """Every circuit as it is in this replica, after reading Redis."""
        await self.poll()
        return [self.report_of(provider) for provider in self._guards]

    def report_of(self, provider: ProviderName) -> CircuitResponse:
        """One circuit, as known here."""
        circuit = self._guards[provider].circuit
        hold = circuit.hold
        return CircuitResponse(
            provider=provider,
            circuit_breaker_state=circuit.state,
            forced=hold is not None,
            reason=None if hold is None else hold.reason,
            actor=None if hold is None else hold.actor,
            expires_in_s=None if hold is None or hold.until_s is None else round(hold.until_s - self._clock(), 1),
            scope=self._shared.scope,
        )

    async def force(self, provider: ProviderName, order: CircuitOrder, *, by: Administrator) -> CircuitResponse:
        """Force the circuit's state, whatever its traffic. Raises InvalidQueryError if the reason holds a secret."""
        if holds_secret(order.reason, self._secrets):
            raise InvalidQueryError("reason: contains one of the service's own secrets, which others could then read")
        ordered = Order(
            state=order.state,
            reason=order.reason,
            actor=by.actor,
            at_s=self._now_s(),
            for_s=order.for_s,
            request_id=by.request_id,
        )
        return await self._order(provider, ordered, AdminAction.CIRCUIT_FORCED, by)

    async def reset(self, provider: ProviderName, *, by: Administrator) -> CircuitResponse:
        """Reset the circuit in every replica, lift a throttle pause and what the service itself forced."""
        ordered = Order(
            state=None, reason=None, actor=by.actor, at_s=self._now_s(), for_s=None, request_id=by.request_id
        )
        return await self._order(provider, ordered, AdminAction.CIRCUIT_RESET, by)

    async def _order(
        self, provider: ProviderName, order: Order, action: AdminAction, by: Administrator
    ) -> CircuitResponse:
        old: JsonValue = None

        def ordered(latest: Edition) -> Values:
            nonlocal old
            old = self._shown(provider)  # after applying the orders of other replicas
            return {**latest.values, provider.value: stored_form(order)}

        await self._shared.change(
            ordered, then=lambda *_: self._audit.record(by, action, provider, old=old, new=self._shown(provider))
        )
        return self.report_of(provider)

    def _take(self, values: Values) -> None:
        for provider, guards in self._guards.items():
            stored = values.get(provider.value)
            if stored == self._followed.get(provider):
                continue
            self._followed[provider] = stored
            order = None if stored is None else order_of(stored)
            if stored is not None and order is None:
                log.warning("stored_order_left_out", provider=provider)
                self._count_flaw()
                self._left_out.add(provider)
            else:
                self._left_out.discard(provider)
                self._follow(guards, order)

    def _follow(self, guards: Guards, order: Order | None) -> None:
        """Without an order, or with an expired one, the circuit is no longer held by an administrator."""
        circuit = guards.circuit
        left_s = None if order is None else order.left_s(self._now_s())
        match order:
            case Order(state=None):
                circuit.reset()
                guards.gate.lift()
            case Order(state=ForcedState() as state, reason=str() as reason) if left_s is None or left_s > 0:
                circuit.force(CircuitState(state), reason=reason, actor=order.actor, for_s=left_s)
            case _ if circuit.hold is not None and circuit.hold.actor != OWN_DECISION:
                circuit.reset()

    def _shown(self, provider: ProviderName) -> JsonValue:
        return self.report_of(provider).model_dump(
            mode="json", include={"circuit_breaker_state", "reason", "expires_in_s"}
        )
