"""Implementations of the protocols (`*_impl.py`), and packages of their helpers."""
