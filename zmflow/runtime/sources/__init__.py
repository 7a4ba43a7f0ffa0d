"""The shells of sources: the loop of a reader, the split enumerator, and what goes between them."""
