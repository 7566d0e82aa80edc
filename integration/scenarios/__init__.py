"""What a user would notice, on whole labs: real control, agents, WireGuard, kernel."""
