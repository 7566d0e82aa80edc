"""What tests need to use the real kernel without touching the machine they run on."""
