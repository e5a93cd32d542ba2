"""``hil search``: a whole search in one folder."""
