"""Measures the service: what it adds to a provider call, how it compares with its peers, and how replicas scale.

Outside of the layers: it may use the service's parts, nothing of the service uses it. The server under test has a core
of its own; load, providers and everything else share another one.
"""
