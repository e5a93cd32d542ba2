"""Whole networks on a chip: as a plan of its sequencer, or step by step with the host between the layers."""
