"""Prices of the events on a chip, measured: loops of few kinds of event each, while a meter reads the supply."""
