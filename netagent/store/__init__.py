"""Revisioned key-value stores behind one contract; knows nothing of what the values mean."""
