"""Networks known by name, written down node by node."""
