"""Experiments: pure functions from configurations and random streams to measurements."""
