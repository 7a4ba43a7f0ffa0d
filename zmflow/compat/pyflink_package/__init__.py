"""The package ``pyflink`` that travels with a job, so that workers can import it by that name."""

from pathlib import Path

__all__ = ["PACKAGE"]

PACKAGE = Path(__file__).with_name("pyflink")
"""The directory to ship with ``add_python_file``."""
