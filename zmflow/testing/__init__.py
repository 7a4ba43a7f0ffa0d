"""Public instruments for tests of jobs and plugins."""
