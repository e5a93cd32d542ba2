"""Other simulators and instruments: noise models written for them, and their files read as tables of cells."""
