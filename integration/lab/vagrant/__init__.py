"""Hosts that Vagrant makes: the box, where libvirt runs without the machine's own, and the lab."""
