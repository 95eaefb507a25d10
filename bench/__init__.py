"""Measures the service: what it costs beside a call to a provider, beside its peers, and as replicas.

Outside of the layers: it may use the service's parts, nothing of the service uses it. The server under test has a core
of its own; load, providers and everything else share another one.
"""
