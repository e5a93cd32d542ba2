"""Host, chip and a line with seeded faults in one process on a clock that only the simulation moves."""
