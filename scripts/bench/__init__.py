"""The performance suite's areas, one a file; `scripts/performance_test.py` runs them."""
