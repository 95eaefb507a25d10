"""Background tasks and process signals."""
