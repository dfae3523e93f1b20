"""Who does the work of the enrichment: models on this machine, and services elsewhere."""
