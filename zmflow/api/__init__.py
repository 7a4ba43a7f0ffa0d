"""What users write: environments, streams, functions, sources and sinks."""
