"""Laws of cells: programming, relaxation, read noise, temperature, write-verify."""
