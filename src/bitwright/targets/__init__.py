"""What a device can compute and how: one TOML file per target."""
