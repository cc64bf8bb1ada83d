"""Values: frozen dataclasses over the standard library alone. Parsed at the edge, trusted inside; None means absent."""
