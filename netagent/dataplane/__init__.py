"""The only part of netagent that touches the kernel: BPF, netlink, WireGuard."""
