"""netagent: a private networking overlay with movable, stable IPv6 addresses."""
