"""Replays of certificates, one file per kind: short, and independent of the solver that made the certificate."""
