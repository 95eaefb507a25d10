"""The operations page: one file that asks nobody but this service, and runs no script but its own."""

import base64
import hashlib
import re
from pathlib import Path

from quart import Blueprint, Response, request

PAGE = Path(__file__).with_name("pages").joinpath("operations.html").read_text(encoding="utf-8")


def _digests(tag: str) -> str:
    """Those of the page's own elements, in the form that a policy names them."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


# No script can be injected, and none can write HTML: what the service tells may hold the text of others.
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_digests('script')}",
        f"style-src {_digests('style')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
VERSION_TAG = hashlib.sha256(PAGE.encode()).hexdigest()[:16]

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
async def page() -> Response:
    """The page, or 304 when the browser has it already."""
    response = Response(PAGE, content_type="text/html; charset=utf-8", headers=HEADERS)
    response.set_etag(VERSION_TAG)
    return await response.make_conditional(request)
