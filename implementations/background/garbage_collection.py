"""Sets Python's garbage collector for a process that serves requests, which create no cycles."""

import gc

OBJECTS_PER_COLLECTION = 10_000


async def tune_garbage_collection() -> None:
    """Freeze what exists now, which lives as long as the process, and collect rarely.

    Exceptions must not form reference cycles: they would keep essays alive until the next collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_COLLECTION)
