"""Deadlines, single flight, admission, drain, and the policies around a provider."""
