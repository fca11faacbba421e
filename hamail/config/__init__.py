"""Reading the two TOML files strictly."""
