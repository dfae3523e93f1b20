"""The ledger of jobs: submit or join, claim, lease, progress, recovery."""
