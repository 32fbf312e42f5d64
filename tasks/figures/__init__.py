"""Figures of measurements, one file per experiment; `axes` holds what they share."""
