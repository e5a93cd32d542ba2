"""One compute-in-memory macro and its physics: specification, converters, calibration, simulator."""
