"""The UI's web server: health, account pages, and the Streamlit app.

Start it with `python -m ui.server`; `streamlit run ui/server.py` works as well, as Streamlit
Community Cloud does it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:  # `streamlit run` puts only this file's folder there
    sys.path.insert(0, str(_ROOT))

import streamlit as st  # noqa: E402
from starlette.concurrency import run_in_threadpool  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from shared.config import get_settings  # noqa: E402
from shared.errors import BharatVerseError  # noqa: E402
from shared.observability import health  # noqa: E402
from shared.observability.logging import configure_logging  # noqa: E402
from ui import account_pages  # noqa: E402


async def healthz(_request: Request) -> Response:
    """The process lives."""
    return PlainTextResponse("ok\n")


async def readyz(_request: Request) -> Response:
    """A contribution would travel the whole way now; 503 when something is missing."""
    report = await run_in_threadpool(health.report)
    return Response(
        json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n",
        status_code=200 if report.ready else 503,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


app = st.App(
    _ROOT / "ui" / "app.py",
    routes=[Route("/healthz", healthz), Route("/readyz", readyz), *account_pages.routes],
)


def main() -> None:
    """Serve on UI_HOST and UI_PORT until stopped."""
    try:
        settings = get_settings()
    except BharatVerseError as error:
        sys.exit(error.sentence)
    configure_logging(settings.log_level)
    app.run(config={"server.address": settings.ui_host, "server.port": settings.ui_port})


if __name__ == "__main__":
    main()
