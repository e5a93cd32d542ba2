"""Latency, energy, power, area and wear of a workload on a chip."""
