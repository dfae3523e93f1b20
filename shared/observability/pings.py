"""Keep the configured services warm, inside their rate limit, and remember how they are."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests

from shared.config import get_settings
from shared.observability.logging import get_logger
from shared.redis_client import client

log = get_logger(__name__)
# Its DEBUG lines quote whole addresses, and a path or query may hold a key.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

_HEALTH_KEY = "health:services"
_RATE_KEY = "rate:api-calls:{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """How one service answered."""

    service: str  # scheme and host only: a path or query may hold a key
    ok: bool
    detail: str  # "200" or the kind of failure
    ms: float
    at: float  # seconds since 1970


def ping_services() -> list[Ping]:
    """Ping every URL in WARMUP_URLS, MAX_CONCURRENT_REQUESTS at a time; raises `REDIS_ERRORS`.

    API_CALLS_PER_MINUTE holds over all workers together; what it leaves no room for is left out
    until the next round.
    """
    settings = get_settings()
    urls = [url for url in settings.warmup_urls if _is_within_rate()]
    if len(urls) < len(settings.warmup_urls):
        log.warning("Pings left out by the rate limit", action="ping.limited")
    if not urls:
        return []
    with ThreadPoolExecutor(max_workers=settings.max_concurrent_requests) as pool:
        pings = list(pool.map(_ping, urls))
    client().set(_HEALTH_KEY, json.dumps([asdict(ping) for ping in pings]))
    return pings


def last_pings() -> list[Ping]:
    """How the services answered the last time; raises `REDIS_ERRORS`."""
    kept: Any = client().get(_HEALTH_KEY)
    return [] if kept is None else [Ping(**record) for record in json.loads(kept)]


def _is_within_rate() -> bool:
    key = _RATE_KEY.format(int(time.time() // 60))
    pipe = client().pipeline()
    pipe.incr(key)
    pipe.expire(key, 120)
    count: int = pipe.execute()[0]
    return count <= get_settings().api_calls_per_minute


@cache
def _http() -> requests.Session:
    return requests.Session()


def _ping(url: str) -> Ping:
    parts = urlsplit(url)
    started = time.monotonic()
    try:
        answer = _http().get(
            url, timeout=get_settings().ping_timeout_seconds, allow_redirects=False, stream=True
        )
        with answer:
            ok, detail = answer.status_code < 500, str(answer.status_code)
    except requests.RequestException as error:
        ok, detail = False, type(error).__name__
    ms = (time.monotonic() - started) * 1000
    if not ok:
        log.warning("A service does not answer", action="ping.failed", error=detail, ms=round(ms))
    service = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    return Ping(service=service, ok=ok, detail=detail, ms=ms, at=time.time())
