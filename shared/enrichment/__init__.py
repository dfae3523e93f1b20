"""What the archive finds out about an item by machine, step by step, with provenance."""
