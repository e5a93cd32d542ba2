"""A deployment: compile, program, calibrate, run on the chip and in the simulator, judge."""
