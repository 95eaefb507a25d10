"""The way to the providers: one HTTP transport, its failures by class, strict JSON, the shared chat dialect."""
