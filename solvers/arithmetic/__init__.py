"""Numbers: norms, rationals, compiled kernels, threads; knows no network."""
