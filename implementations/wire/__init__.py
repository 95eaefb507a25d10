"""Talking to providers: one HTTP transport, failure classification, strict JSON, the shared chat completions API."""
