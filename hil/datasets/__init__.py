"""Image sets by name or path, checked before they take memory."""
