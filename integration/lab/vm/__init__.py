"""The lab's second backend: hosts that are virtual machines, each with its kernel and systemd."""
