"""Constructions of interpolating networks, one per file; `solvers.registry` is their table."""
