"""The shipped studies: one TOML file per figure or table."""
