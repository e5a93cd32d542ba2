"""Virtual chips of one deployment."""
