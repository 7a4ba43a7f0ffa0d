"""From what the user wrote to what the cluster runs: transformations → StreamGraph → JobGraph. Pure data."""

__all__: list[str] = []
