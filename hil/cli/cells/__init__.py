"""Commands of single cells by address."""
