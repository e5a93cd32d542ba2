"""Faults of radiation: kinds, sites, injection into a virtual chip, campaigns, accuracy over the years."""
