"""What zmflow is measured by: run with ``python -m benchmarks``."""
