"""Fast mode: one product for a whole multi-bit input, noise of matched moments."""
