"""Bounds on all gradients under a partial activation pattern; every method may use them."""
