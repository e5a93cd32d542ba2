"""The emulated chip: its hidden truth, its own physics, and the chip role of the protocol."""
