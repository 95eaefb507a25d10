"""The in-process cache: LRU eviction, bounded in bytes, entries and age.

An entry counts as at least size_bytes / max_entries bytes, so that one measure bounds both.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cachetools import Cache, TLRUCache

from protocols import ClockProtocol

# An entry's key, objects and slots in three tables, without the payload: CPython 3.11, rounded up.
OVERHEAD_BYTES = 600


@dataclass(frozen=True, slots=True)
class Entry:
    """A payload with times on the monotonic clock, in seconds: bought, stored here, expired."""

    payload: bytes
    born_at_s: float
    stored_at_s: float
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """A cache hit. Seconds: since it was bought, since it was stored here, until it expires."""

    payload: bytes
    age_s: float
    kept_s: float
    left_s: float


class CountedEntries(TLRUCache[str, Entry]):
    """Tracks the size of its payloads. A key must be deleted before it is set again."""

    payload_bytes = 0
    on_evict: Callable[[], None]

    def popitem(self) -> tuple[str, Entry]:
        """Evict one entry."""
        self.on_evict()
        return super().popitem()

    def __setitem__(self, key: str, entry: Entry) -> None:
        """Store the entry, unless it has expired already."""
        super().__setitem__(key, entry)
        if Cache.__contains__(self, key):
            self.payload_bytes += len(entry.payload)

    def __delitem__(self, key: str) -> None:
        """Called for every removal, except by `expire`."""
        self.payload_bytes -= len(Cache.__getitem__(self, key).payload)
        super().__delitem__(key)

    def expire(self, time: float | None = None) -> list[tuple[str, Entry]]:
        """Remove expired entries."""
        expired = super().expire(time)
        self.payload_bytes -= sum(len(entry.payload) for _, entry in expired)
        return expired


class LocalCache:
    """size_bytes, max_entries: its bounds; clock: monotonic seconds; on_evict: called once per eviction."""

    def __init__(
        self, *, size_bytes: int, max_entries: int, clock: ClockProtocol, on_evict: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._smallest = max(1, size_bytes // max_entries)
        self._entries = CountedEntries(
            maxsize=self._smallest * max_entries,
            ttu=lambda _key, entry, _now: entry.expires_at_s,
            timer=clock,
            getsizeof=self._size,
        )
        self._entries.on_evict = on_evict

    def get(self, key: str) -> KeptEntry | None:
        """The entry with its age, or None."""
        try:
            entry = self._entries[key]
        except KeyError:
            return None
        now_s = self._clock()
        return KeptEntry(
            payload=entry.payload,
            age_s=now_s - entry.born_at_s,
            kept_s=now_s - entry.stored_at_s,
            left_s=entry.expires_at_s - now_s,
        )

    def put(self, key: str, payload: bytes, *, ttl_s: float, age_s: float = 0.0) -> None:
        """Store the payload for ttl_s seconds, replacing an earlier one; one larger than the cache is not stored.

        age_s: how long ago it was bought.
        """
        self.remove(key)
        now_s = self._clock()
        entry = Entry(payload, now_s - age_s, now_s, now_s + ttl_s)
        if self._size(entry) <= self._entries.maxsize:
            self._entries[key] = entry

    def remove(self, key: str) -> None:
        """Remove the key if present."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Remove every entry."""
        for key in list(self._entries):
            self.remove(key)

    def __len__(self) -> int:
        """Number of unexpired entries."""
        self._entries.expire()
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Bytes as counted against the limit."""
        return round(self._entries.currsize)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the unexpired payloads themselves."""
        self._entries.expire()
        return self._entries.payload_bytes

    def _size(self, entry: Entry) -> int:
        return max(self._smallest, len(entry.payload) + OVERHEAD_BYTES)
