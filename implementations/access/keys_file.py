"""Polls the file of the callers' keys, so that keys change without a restart."""

import asyncio
from pathlib import Path

import structlog

from caller_keys import caller_digests
from environment import Wrong, secret_in
from implementations.access.key_ring import KeyRing
from implementations.resilience.stalls import any_done
from metrics import Metrics

READ_TIMEOUT_S = 5.0
HANGS = Wrong("reading the file takes too long")

log = structlog.get_logger("access")


class KeysFile:
    """Loads the file into the key ring. A file that cannot be read or parsed changes nothing: the old keys stay."""

    def __init__(self, path: Path, ring: KeyRing, *, metrics: Metrics) -> None:
        self._path = path
        self._ring = ring
        self._metrics = metrics
        self._seen: str | Wrong | None = None
        self._reading: asyncio.Task[str | Wrong] | None = None

    async def reload(self) -> None:
        """Poll once: in a thread, because a volume may hang; by content, because mounted volumes swap symlinks.

        While it hangs nothing else is read: each reading would take another thread.
        """
        reading = self._reading or asyncio.create_task(asyncio.to_thread(secret_in, self._path))
        self._reading = None if await any_done(reading, within_s=READ_TIMEOUT_S) else reading
        found = HANGS if self._reading else reading.result()
        if found != self._seen:
            self._seen = found
            self._take(found)

    def _take(self, found: str | Wrong) -> None:
        if isinstance(found, Wrong):
            self._refuse(found.message)
            return
        try:
            digests = caller_digests(found)
        except ValueError as complaint:
            self._refuse(str(complaint))
            return
        self._metrics.caller_keys_refused.set(0)
        self._metrics.introduce_callers(digests)
        if self._ring.replace(digests):
            self._metrics.caller_key_reloads.of("taken").inc()
            log.warning("caller_keys_changed", callers=sorted(digests))

    def _refuse(self, complaint: str) -> None:
        self._metrics.caller_key_reloads.of("refused").inc()
        self._metrics.caller_keys_refused.set(1)
        log.error("caller_keys_refused", complaint=complaint)
