"""Flower's settings; `celery flower --conf` runs this file and takes the names it knows.

They stand here and not on the command line, where `ps` would show the password to everybody on
the machine. With `basic_auth` set, every page and every `/api/` route asks for it, whatever
FLOWER_UNAUTHENTICATED_API says; only `/healthcheck` and `/metrics` answer without.
"""

from shared.accounts.flower_password import flower_password
from shared.config import get_settings

_settings = get_settings()

address = _settings.flower_host
port = _settings.flower_port
#: A list, because Flower would cut a plain string at its commas.
basic_auth = [f"{_settings.flower_user}:{flower_password(_settings)}"]

# Flower keeps its history in memory: about 3 KB a task, so 15 MB at most.
max_tasks = 5000
max_workers = 100
purge_offline_workers = 300  # seconds; a replaced worker leaves the list, a restarting one stays
persistent = False  # the ledger is the history
