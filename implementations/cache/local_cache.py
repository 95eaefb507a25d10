"""The in-process cache: LRU eviction, bounded in bytes, entries and age.

An entry counts as at least size_bytes / max_entries bytes, so that one measure bounds both.
"""

from collections import OrderedDict
from collections.abc import Callable

from protocols import ClockProtocol
from value_object import value_object

# An entry's key, objects and place in the table, without the payload: CPython 3.11, rounded up.
OVERHEAD_BYTES = 450


@value_object
class Entry:
    """A payload with times on the monotonic clock, in seconds: bought, stored here, expired."""

    payload: bytes
    born_at_s: float
    stored_at_s: float
    expires_at_s: float


@value_object
class KeptEntry:
    """A cache hit. Seconds: since it was bought, since it was stored here, until it expires."""

    payload: bytes
    age_s: float
    kept_s: float
    left_s: float


class LocalCache:
    """size_bytes, max_entries: its bounds; clock: monotonic seconds; on_evict: called once per eviction.

    Expired entries are removed when they are looked up, evicted or counted; only counting visits all entries.
    """

    def __init__(
        self, *, size_bytes: int, max_entries: int, clock: ClockProtocol, on_evict: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._on_evict = on_evict
        self._smallest = max(1, size_bytes // max_entries)
        self._limit_bytes = self._smallest * max_entries
        self._entries = OrderedDict[str, Entry]()  # the least recently used one first
        self.size_bytes = 0  # as counted against the limit

    def get(self, key: str) -> KeptEntry | None:
        """The entry with its age, or None."""
        entry, now_s = self._entries.get(key), self._clock()
        if entry is None:
            return None
        if entry.expires_at_s <= now_s:
            self.remove(key)
            return None
        self._entries.move_to_end(key)
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
        now_s, size_bytes = self._clock(), self._counted_bytes(payload)
        if ttl_s <= 0 or size_bytes > self._limit_bytes:
            return
        while self.size_bytes + size_bytes > self._limit_bytes:
            self._evict(now_s)
        self._entries[key] = Entry(
            payload=payload, born_at_s=now_s - age_s, stored_at_s=now_s, expires_at_s=now_s + ttl_s
        )
        self.size_bytes += size_bytes

    def remove(self, key: str) -> None:
        """Remove the key if present."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= self._counted_bytes(entry.payload)

    def clear(self) -> None:
        """Remove every entry."""
        self._entries.clear()
        self.size_bytes = 0

    def __len__(self) -> int:
        """Number of unexpired entries."""
        now_s = self._clock()
        for key in [key for key, entry in self._entries.items() if entry.expires_at_s <= now_s]:
            self.remove(key)
        return len(self._entries)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the unexpired payloads themselves."""
        now_s = self._clock()
        return sum(len(entry.payload) for entry in self._entries.values() if entry.expires_at_s > now_s)

    def _evict(self, now_s: float) -> None:
        key, entry = next(iter(self._entries.items()))
        self.remove(key)
        if entry.expires_at_s > now_s:
            self._on_evict()

    def _counted_bytes(self, payload: bytes) -> int:
        return max(self._smallest, len(payload) + OVERHEAD_BYTES)
