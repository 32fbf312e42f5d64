"""Where work runs, in one process or on Ray; writes to no terminal, hands values and reports back."""
