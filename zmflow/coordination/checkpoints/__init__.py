"""The checkpoints of a job as the JobManager decides them: triggered, complete, kept, gone on from."""
