"""What replicas share: the one Redis client with its circuits and its prober, and the stores on it."""
