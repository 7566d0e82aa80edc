"""What systemd and the daemons tell each other: units to install, and notifications."""
