"""Bounds from slopes alone: multipliers found by vectors, proved by Cholesky decompositions."""
