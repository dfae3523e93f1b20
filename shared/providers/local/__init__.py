"""Models that run on this machine, from ordinary packages and without a download.

The packages are imported when they are first used, so that the process of the UI, which lacks
them, can import everything here.
"""

PROVIDER = "local"
