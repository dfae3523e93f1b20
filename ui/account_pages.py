"""Signing in and out, choosing a password, registering: small pages without JavaScript.

They are server routes, not Streamlit pages, because only a route can set an HttpOnly cookie, and
because a password then never passes through a session's state.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from shared.accounts import sign_in, users
from shared.accounts.policy import Actor
from shared.config import get_settings
from shared.errors import BharatVerseError, Unavailable

SESSION_COOKIE = "bharatverse_session"
_CSRF_COOKIE = "bharatverse_csrf"

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default=True),
)

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


async def show_sign_in(request: Request) -> Response:
    """The form for name and password."""
    return _page(request, "sign_in")


async def do_sign_in(request: Request) -> Response:
    """Check name and password; on success set the cookie and go on to where one came from."""
    form = await request.form()
    name, password = str(form.get("name", "")), str(form.get("password", ""))
    token, _, must_change = await run_in_threadpool(sign_in.sign_in, name=name, password=password)
    target = "/password" if must_change else _next_path(request)
    return _signed_in(request, token, target)


async def show_sign_out(request: Request) -> Response:
    """A button, so that no link on another site signs anybody out."""
    return _page(request, "sign_out")


async def do_sign_out(request: Request) -> Response:
    """End the session and forget the cookie."""
    if token := request.cookies.get(SESSION_COOKIE):
        await run_in_threadpool(sign_in.sign_out, token)
    answer = RedirectResponse("/", status_code=303, headers=_HEADERS)
    answer.delete_cookie(SESSION_COOKIE)
    return answer


async def show_password(request: Request) -> Response:
    """The form for a new password; sends visitors to sign in first."""
    actor, _ = await _who(request)
    if actor.user_id is None:
        return RedirectResponse("/sign-in?next=/password", status_code=303, headers=_HEADERS)
    return _page(request, "password")


async def do_password(request: Request) -> Response:
    """Change the password, then sign in again with a new session."""
    actor, _ = await _who(request)
    if actor.user_id is None:
        return RedirectResponse("/sign-in?next=/password", status_code=303, headers=_HEADERS)
    form = await request.form()
    new = str(form.get("new", ""))
    if new != str(form.get("again", "")):
        raise users.WeakPassword("The two new passwords differ; type the same one twice.")
    await run_in_threadpool(
        users.change_password, actor.user_id, old=str(form.get("old", "")), new=new
    )
    token, _, _ = await run_in_threadpool(sign_in.sign_in, name=actor.name, password=new)
    return _signed_in(request, token, "/")


async def show_sign_up(request: Request) -> Response:
    """The form for a new account, where the settings allow it."""
    return _page(request, "sign_up")


async def do_sign_up(request: Request) -> Response:
    """Make a contributor account and sign it in."""
    form = await request.form()
    name, password = str(form.get("name", "")), str(form.get("password", ""))
    await run_in_threadpool(users.register, name=name, password=password)
    token, _, _ = await run_in_threadpool(sign_in.sign_in, name=name, password=password)
    return _signed_in(request, token, _next_path(request))


async def _who(request: Request) -> tuple[Actor, bool]:
    return await run_in_threadpool(sign_in.actor_of, request.cookies.get(SESSION_COOKIE))


def _page(request: Request, form: str, *, error: str = "", status: int = 200) -> HTMLResponse:
    csrf = request.cookies.get(_CSRF_COOKIE) or secrets.token_urlsafe(24)
    html = _templates.get_template("account.html").render(
        form=form,
        error=error,
        csrf=csrf,
        next=_next_path(request),
        self_registration=get_settings().self_registration,
        min_length=users.MIN_PASSWORD_LENGTH,
        max_length=users.MAX_PASSWORD_LENGTH,
    )
    answer = HTMLResponse(html, status_code=status, headers=_HEADERS)
    answer.set_cookie(
        _CSRF_COOKIE, csrf, httponly=True, samesite="strict", secure=_is_https(request)
    )
    return answer


def _signed_in(request: Request, token: str, target: str) -> Response:
    # 303 to a full page load: the cookie is read when the page's WebSocket opens.
    answer = RedirectResponse(target, status_code=303, headers=_HEADERS)
    answer.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=get_settings().session_hours * 3600,
        httponly=True,
        samesite="lax",
        secure=_is_https(request),
    )
    return answer


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https" or get_settings().public_url.startswith("https")


def _next_path(request: Request) -> str:
    """Where to go afterwards: a path of this site, never another one."""
    wanted = request.query_params.get("next", "/")
    # Browsers read a backslash as a slash, and pass over line ends and tabs.
    if not wanted.startswith("/") or wanted.startswith("//") or set(wanted) & set("\\\r\n\t"):
        return "/"
    return quote(wanted, safe="/?=&-_.~%")


_Handler = Callable[[Request], Awaitable[Response]]


def _explained(form: str, handler: _Handler) -> _Handler:
    """A page that shows its errors above its form."""

    async def explained(request: Request) -> Response:
        try:
            return await handler(request)
        except Unavailable as error:
            return _page(request, form, error=error.sentence, status=503)
        except BharatVerseError as error:
            return _page(request, form, error=error.sentence, status=400)

    return explained


def _guarded(form: str, handler: _Handler) -> _Handler:
    """A POST that proves it comes from our own form."""

    async def guarded(request: Request) -> Response:
        sent = str((await request.form()).get("csrf", ""))
        expected = request.cookies.get(_CSRF_COOKIE, "")
        if not expected or not secrets.compare_digest(sent.encode(), expected.encode()):
            stale = "This form is out of date; please fill it in once more."
            return _page(request, form, error=stale, status=403)
        return await _explained(form, handler)(request)

    return guarded


routes = [
    Route("/sign-in", show_sign_in, methods=["GET"]),
    Route("/sign-in", _guarded("sign_in", do_sign_in), methods=["POST"]),
    Route("/sign-out", show_sign_out, methods=["GET"]),
    Route("/sign-out", _guarded("sign_out", do_sign_out), methods=["POST"]),
    Route("/password", _explained("password", show_password), methods=["GET"]),
    Route("/password", _guarded("password", do_password), methods=["POST"]),
    Route("/sign-up", show_sign_up, methods=["GET"]),
    Route("/sign-up", _guarded("sign_up", do_sign_up), methods=["POST"]),
]
