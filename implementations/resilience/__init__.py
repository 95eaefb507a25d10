"""Deadlines, single flight, the door, the drain, and the policies around a judge."""
