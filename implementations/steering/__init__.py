"""What an operator changes while the service runs, and how all replicas come to hold the same."""
