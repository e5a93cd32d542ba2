"""Chips on which a deployment carries out a recipe: the chip on the wire, and one that only counts."""
