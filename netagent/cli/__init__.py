"""The `netagent` command: the only part that prints."""
