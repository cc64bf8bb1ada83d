"""One job's life: from a template to a result."""
