"""The chaos suite: real processes are killed at random moments, and then SQL counts.

`make chaos` runs all of it at length; `test_*.py` runs a short version of each scenario.
"""
