"""The gRPC stubs, generated from proto/, and their conversion to and from the model."""
