"""Estimators: from plain arrays of measurements to the numbers of a calibration record."""
