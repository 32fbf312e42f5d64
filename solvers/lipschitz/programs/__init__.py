"""Parts of the mixed-integer method: models, backends, what counts as a strict interior."""
