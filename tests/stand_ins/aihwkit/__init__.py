"""As much of AIHWKit as the notebook of a record names, for where it is not installed: weights on pairs of cells."""
