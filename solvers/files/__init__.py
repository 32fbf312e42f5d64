"""Networks in files, one file per format; `models` and `threshold_npz` are their tables."""
