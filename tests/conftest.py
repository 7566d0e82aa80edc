"""Puts this directory on the import path, for `oracle` and `kernel`."""
