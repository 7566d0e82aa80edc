"""BCC in a guest: counts what its kernel does, and shares no code with netagent."""
