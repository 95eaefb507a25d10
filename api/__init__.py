"""HTTP in, HTTP out: reads requests, renders answers and failures, and decides nothing."""
