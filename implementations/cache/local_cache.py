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
class LocalEntry:
    """A cache hit. Seconds: since it was bought, since it was stored here, until it expires."""

    payload: bytes
    age_s: float
    here_s: float
    left_s: float


class LocalCache:
    """size_bytes, max_entries: its bounds; clock: monotonic seconds; on_evict: called once per eviction.

    Expired entries are removed when they are looked up, and when they are the least recently used at the next `put` or
    count; until then they are held and counted.
    """

    def __init__(
        self, *, size_bytes: int, max_entries: int, clock: ClockProtocol, on_evict: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._on_evict = on_evict
        self._smallest = max(1, size_bytes // max_entries)
        self._limit_bytes = min(size_bytes, self._smallest * max_entries)
        self._entries = OrderedDict[str, Entry]()  # the least recently used one first
        self.size_bytes = 0  # as counted against the limit
        self._payload_bytes = 0

    def get(self, key: str) -> LocalEntry | None:
        """The entry with its age, or None."""
        entry, now_s = self._entries.get(key), self._clock()
        if entry is None:
            return None
        if entry.expires_at_s <= now_s:
            self.remove(key)
            return None
        self._entries.move_to_end(key)
        return LocalEntry(
            payload=entry.payload,
            age_s=now_s - entry.born_at_s,
            here_s=now_s - entry.stored_at_s,
            left_s=entry.expires_at_s - now_s,
        )

    def put(self, key: str, payload: bytes, *, ttl_s: float, age_s: float = 0.0) -> None:
        """Store the payload for ttl_s seconds, replacing an earlier one; one larger than the cache is not stored.

        age_s: how long ago it was bought.
        """
        self.remove(key)
        now_s, size_bytes = self._clock(), self._counted_bytes(payload)
        if size_bytes > self._limit_bytes:
            return
        self._make_room(size_bytes)
        self._entries[key] = Entry(
            payload=payload, born_at_s=now_s - age_s, stored_at_s=now_s, expires_at_s=now_s + ttl_s
        )
        self.size_bytes += size_bytes
        self._payload_bytes += len(payload)

    def remove(self, key: str) -> None:
        """Remove the key if present."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= self._counted_bytes(entry.payload)
            self._payload_bytes -= len(entry.payload)

    def clear(self) -> None:
        """Remove every entry."""
        self._entries.clear()
        self.size_bytes = self._payload_bytes = 0

    def __len__(self) -> int:
        """Number of entries."""
        self._make_room(0)
        return len(self._entries)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the payloads themselves."""
        self._make_room(0)
        return self._payload_bytes

    def _make_room(self, size_bytes: int) -> None:
        """Remove the least recently used entries: those that have expired, and as many more as are needed."""
        now_s = self._clock()
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            is_expired = entry.expires_at_s <= now_s
            if not is_expired and self.size_bytes + size_bytes <= self._limit_bytes:
                return
            self.remove(key)
            if not is_expired:
                self._on_evict()

    def _counted_bytes(self, payload: bytes) -> int:
        return max(self._smallest, len(payload) + OVERHEAD_BYTES)
