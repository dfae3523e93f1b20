"""What runs in the background: doorways only; the work itself is done in `shared`."""
