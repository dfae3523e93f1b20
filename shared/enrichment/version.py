"""The version of the enrichment, apart from its code, which needs numpy and is for workers only."""

PIPELINE_VERSION = "1"  # raise it when the same text would get other findings
