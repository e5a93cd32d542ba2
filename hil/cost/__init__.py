"""``hil estimate``: what a network costs on a chip, in words, JSON and as a page."""
