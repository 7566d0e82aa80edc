"""Generated from proto/ when the project is built."""
