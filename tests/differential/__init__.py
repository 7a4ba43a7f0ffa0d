"""The same generated programs on PyFlink and on zmflow."""
