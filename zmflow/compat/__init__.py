"""Names other systems' users already know."""
