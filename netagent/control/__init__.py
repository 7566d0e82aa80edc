"""The control plane: services, allocation, the fan-out to agents, the driver of moves."""
