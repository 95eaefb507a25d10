"""Documents and pages, built once and cached by clients. A page runs only its own code and calls only this service."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from quart import Request, Response

PAGES = Path(__file__).with_name("pages")


@dataclass(frozen=True, kw_only=True)
class StaticText:
    """A text that clients may cache; they revalidate it with its ETag and get 304 while it is unchanged."""

    text: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def etag(self) -> str:
        """Computed once: who asks needs no key."""
        return sha256(self.text).hexdigest()[:32]

    def answer(self, request: Request) -> Response:
        """The text, or 304."""
        if request.if_none_match.contains_weak(self.etag):
            response = Response(status=304)
            del response.headers["Content-Type"]
        else:
            response = Response(self.text, content_type=self.content_type)
        response.headers.update({**self.headers, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        response.set_etag(self.etag)
        return response


def page(name: str) -> StaticText:
    """A file of `pages` with a policy that allows only its own script and style, and no text to become HTML."""
    text = PAGES.joinpath(name).read_text(encoding="utf-8")
    script, style = (_digest(text, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return StaticText(
        text=text.encode(),
        content_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"},
    )


def _digest(text: str, tag: str) -> str:
    """The CSP hash of the first such element's content."""
    inside = text.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"
