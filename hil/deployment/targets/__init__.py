"""Chips that a recipe is carried out on by a deployment: the one on the wire, and one that is only counted."""
