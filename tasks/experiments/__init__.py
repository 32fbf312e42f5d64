"""Experiments, one per file; `tasks.registry` is their table."""
