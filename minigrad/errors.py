"""The error of graphs; wrong arguments raise Python's own."""


class GraphError(RuntimeError):
    """A graph was asked for something that it cannot give: freed, stale, or nothing to do."""
