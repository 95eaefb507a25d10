"""The HTTP layer: reads requests, renders responses and failures, and makes no decisions."""
