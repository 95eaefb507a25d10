"""Authentication: callers' keys, the administrator's key and its allowed addresses, blocked addresses."""
