"""Leadership: who leads and under which epoch."""
