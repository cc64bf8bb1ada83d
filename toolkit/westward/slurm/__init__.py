"""One cluster: the ways to talk to it, and the texts it understands."""
