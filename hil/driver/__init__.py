"""The chip as a Python object: requests, replies, and first measurements on a bench."""
