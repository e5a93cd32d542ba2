"""Pulses on single cells by address: staircases, sweeps, endurance, retention, read noise."""
