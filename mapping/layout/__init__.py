"""Layout of weights on a chip: tiles, copies, rounds, places on macros."""
