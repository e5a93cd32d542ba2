"""Calibration of one chip through the driver, and its record in words and as a page."""
