"""A chip served to other programs: an emulated one, a board of one's own, or a bench of instruments (``bench``)."""
