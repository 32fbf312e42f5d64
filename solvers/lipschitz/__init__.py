"""Methods for Lipschitz constants, one per file; `solvers.registry` is their table."""
