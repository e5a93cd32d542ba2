"""Tasks: what turns the outputs of a network and the targets of its samples into scores."""
