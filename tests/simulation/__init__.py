"""Deterministic simulation: real services on several nodes, in virtual time, with faults drawn from a seed.

`universe.run(seed)` is one universe; the same seed is the same universe, step by step. `network.py` lies between nodes
and stores, `chaos.py` breaks it, `watch.py` holds the invariants of docs/simulation.md after every commit.
"""
