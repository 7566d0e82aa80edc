"""A fleet on one machine: hosts and machines are namespaces, everything else is real."""
