"""Sessions: one conversation of a model with its code."""
