"""The zmflow command."""
