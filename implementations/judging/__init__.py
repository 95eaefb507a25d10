"""Prompt, verdict, model catalogue, and the essay quality that the mock judge reads."""
