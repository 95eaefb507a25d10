"""Values shared by all replicas: each change makes a new edition, and the highest version wins.

Redis holds one edition, changed by compare-and-set: of two concurrent changes the second starts over from the result
of the first. A replica with a higher version than Redis writes it back: Redis lost it, or was down when it was made.
While Redis does not answer, a change applies to this replica only, and known values stay in force.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import orjson
import structlog
from pydantic import Field, JsonValue, TypeAdapter

from api_models import UsageScope
from exceptions import InvalidQueryError, ServiceOverloadedError
from implementations.steering.overrides import NAME

MAX_BYTES = 64 * 1024
TRIES = 4

Values = Mapping[str, JsonValue]

log = structlog.get_logger("steering")
audit = structlog.get_logger("steering", audit=True)


class Document(Protocol):
    """One text in Redis. None: Redis does not answer; a write may have been executed or not."""

    async def read(self) -> bytes | None:
        """The text; empty if there is none."""
        ...

    async def replace(self, there: bytes, fresh: bytes) -> bool | None:
        """Replace the text that was read by the fresh one; False if it has changed since."""
        ...


@dataclass(frozen=True, slots=True)
class Edition:
    """All values, as of one version."""

    version: Annotated[int, Field(ge=0, lt=2**53)]
    values: dict[str, JsonValue]


NO_CHANGE = Edition(0, {})
EDITION = TypeAdapter(Edition)


class SharedValues:
    """document: None without Redis. take: applies any values. on_flaw: called for an unreadable document."""

    def __init__(
        self, name: str, document: Document | None, *, take: Callable[[Values], None], on_flaw: Callable[[], None]
    ) -> None:
        self._name = name
        self._document = document
        self._take = take
        self._on_flaw = on_flaw
        self._known = NO_CHANGE
        self._stands_here_only = False
        self._is_heard = False
        self._flaw: bytes | None = None
        self._lock = asyncio.Lock()

    @property
    def version(self) -> int:
        """The version in force; 0 before the first change."""
        return self._known.version

    @property
    def is_unreadable(self) -> bool:
        """Redis holds a text that is no edition; it counts as empty."""
        return self._flaw is not None

    @property
    def scope(self) -> UsageScope:
        """Whether the version in force is shared by all replicas, as far as known."""
        return UsageScope.FLEET if self._is_heard and not self._stands_here_only else UsageScope.REPLICA

    async def poll(self) -> None:
        """Sync with Redis. Raises nothing."""
        async with self._lock:
            await self._look()

    async def change(self, update: Callable[[Edition], Values], *, then: Callable[[Values, Values], None]) -> None:
        """Apply what update makes of the latest edition, then call then with the old and the new values.

        An exception of update is passed on and changes nothing. Raises ServiceOverloadedError after TRIES conflicts.
        """
        async with self._lock:
            for _ in range(TRIES):
                there = await self._look()
                before = self._known
                fresh = Edition(before.version + 1, dict(update(before)))
                if not changed_names(before.values, fresh.values):
                    return
                stored = await self._store(there, fresh)
                if stored is not False:
                    self._stands_here_only = stored is None
                    self._adopt(fresh)
                    then(before.values, fresh.values)
                    return
        raise ServiceOverloadedError("others are changing the same values: read them again and retry", shed=None)

    async def _look(self) -> bytes | None:
        """The text in Redis; None if it does not answer. Afterwards the higher version of the two is in force."""
        there = None if self._document is None else await self._document.read()
        self._is_heard = there is not None
        if there is None:
            return None
        found = self._edition(there)
        if found.version < self._known.version:
            return await self._give_back(there)
        if found != self._known:
            if self._stands_here_only or found.version == self._known.version:
                log.warning("operator_change_overruled", what=self._name, edition=found.version)
            audit.info("operator_values_adopted", what=self._name, edition=found.version, changed=self._changed(found))
            self._adopt(found)
        self._stands_here_only = False
        return there

    def _changed(self, fresh: Edition) -> list[str]:
        """The names whose values changed, if valid; the replica that made the change has audited the values."""
        return sorted(filter(NAME.fullmatch, changed_names(self._known.values, fresh.values)))

    async def _give_back(self, there: bytes) -> bytes:
        given = await self._store(there, self._known)
        self._stands_here_only = not given
        if given:
            log.info("operator_values_given_back", what=self._name, edition=self._known.version)
        return _text(self._known)

    async def _store(self, there: bytes | None, edition: Edition) -> bool | None:
        text = _text(edition)
        if there is None or self._document is None:
            return None
        return await self._document.replace(there, text)

    def _adopt(self, edition: Edition) -> None:
        self._known = edition
        self._take(edition.values)

    def _edition(self, there: bytes) -> Edition:
        """The edition in a text; an unreadable text counts as empty, and is logged once."""
        try:
            edition = EDITION.validate_json(there, strict=True) if there else NO_CHANGE
            _text(edition)  # so that it can be given back
        except (ValueError, TypeError, InvalidQueryError):
            if there != self._flaw:
                log.warning("operator_values_unreadable", what=self._name)
                self._on_flaw()
            self._flaw = there
            return NO_CHANGE
        self._flaw = None
        return edition


def changed_names(before: Values, after: Values) -> set[str]:
    """The names whose JSON differs: true is not 1, and an override of null is not none."""
    old, new = (
        {(name, orjson.dumps(value, option=orjson.OPT_SORT_KEYS)) for name, value in values.items()}
        for values in (before, after)
    )
    return {name for name, _ in old ^ new}


def _text(edition: Edition) -> bytes:
    """Raises InvalidQueryError beyond MAX_BYTES."""
    text = orjson.dumps(edition)
    if len(text) > MAX_BYTES:
        raise InvalidQueryError(f"all changed values together must stay below {MAX_BYTES} bytes")
    return text
