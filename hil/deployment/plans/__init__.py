"""A compiled network, and single layers of it, as the sequencer of a chip runs them."""
