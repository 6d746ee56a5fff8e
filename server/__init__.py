"""Patchbay: a WebRTC-first contact center."""

__version__ = "0.1.0"
