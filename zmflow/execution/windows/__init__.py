"""What runs windows: the operator that can do everything, and the fast one for the common case."""
