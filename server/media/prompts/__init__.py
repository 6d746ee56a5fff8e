"""Rendered music and tones, and the script that makes them."""
