"""Logs: structured records with the job, vertex, subtask and attempt they are about."""
