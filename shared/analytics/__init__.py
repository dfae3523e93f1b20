"""What happened in the archive, recorded in microseconds and written to the database in batches.

`record` puts an event into a bounded buffer of this process; a background thread moves the buffer
to a Redis list; a Celery task (`flush`) moves the list to the database. No event carries any
contributed text.
"""

from shared.analytics.buffer import record
from shared.analytics.flush import flush

__all__ = ["flush", "record"]
