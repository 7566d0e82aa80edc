"""The agent: one per host, keeps the kernel in step with control and serves attach and status."""
