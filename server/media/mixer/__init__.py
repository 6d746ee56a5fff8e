"""Decode and mix: a process of its own beside each media worker (see __main__.py)."""
