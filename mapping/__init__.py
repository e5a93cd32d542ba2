"""Networks as data, quantisation, tiling, placement, and running a whole network given something that multiplies."""
