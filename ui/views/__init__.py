"""One page a file; each reads top to bottom like the page itself."""
