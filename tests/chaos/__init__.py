"""Real daemons and real signals: kill -9 at random while jobs run. ``python -m tests.chaos`` says more."""
