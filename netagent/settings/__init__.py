"""Settings of the daemons: file, environment and flags, merged into one checked dataclass."""
