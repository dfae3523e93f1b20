"""Values that are cheaper to keep than to compute again, in Redis, for all processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from shared.config import get_settings
from shared.observability.logging import get_logger
from shared.redis_client import REDIS_ERRORS, breaker, client

log = get_logger(__name__)

_PREFIX = "bharatverse:1:"  # the number changes when the shape of any value does


def get_or_compute(key: str, ttl: float, compute: Callable[[], Any]) -> Any:
    """The JSON-like value under this key, computed and kept for `ttl` seconds when it is missing.

    REDIS_TTL_HOURS bounds `ttl`. Without Redis, or with ENABLE_CACHING=false, it is computed each
    time; errors of `compute` are the caller's.
    """
    settings = get_settings()
    if not settings.enable_caching or breaker.is_open:
        return compute()
    try:
        kept: Any = client().get(_PREFIX + key)
    except REDIS_ERRORS as error:
        breaker.failed()
        log.debug("The cache does not answer", error=type(error).__name__)
        return compute()
    if kept is not None:
        try:
            return json.loads(kept)
        except ValueError:
            log.warning("A cached value is not JSON", action="cache.corrupt", key=key)
    value = compute()
    seconds = min(ttl, settings.redis_ttl_hours * 3600)
    try:
        client().set(_PREFIX + key, json.dumps(value), px=max(1, int(seconds * 1000)))
    except REDIS_ERRORS as error:
        breaker.failed()
        log.debug("The cache does not answer", error=type(error).__name__)
    return value


def forget(*keys: str) -> None:
    """Drop these values for everyone; without Redis there is nothing to drop."""
    if breaker.is_open:
        return
    try:
        client().delete(*(_PREFIX + key for key in keys))
    except REDIS_ERRORS as error:
        breaker.failed()
        log.debug("The cache does not answer", error=type(error).__name__)
