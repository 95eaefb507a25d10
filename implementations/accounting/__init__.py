"""Prices, the usage ledger, the shared budget and cost alerts."""
