"""Laws of cells: programming, relaxation, read noise, temperature, pulses and what writing took."""
