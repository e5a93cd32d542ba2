"""Hardware in the loop: move bytes, program, run, calibrate, compare, report."""
