"""Statistics of measured against simulated: tests, intervals, causes of a gap, the verdict."""
