"""The law of docs/policy.md, cell by cell, with real traffic."""
