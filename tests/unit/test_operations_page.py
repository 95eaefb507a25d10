"""The page as a file: it holds all that it needs, and its policy lets nothing else in."""

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from api.operations_routes import PAGE as KEPT

ROOT = Path(__file__).parents[2]
PAGE, POLICY = KEPT.text.decode(), KEPT.headers["Content-Security-Policy"]
DIRECTIVES = dict(directive.split(" ", 1) for directive in POLICY.split("; "))
LOADING = {"src", "srcset", "href", "action", "formaction", "data", "poster"}


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take it down."""
        self.found.append((tag, dict(attrs)))


ELEMENTS = Elements().found


def test_the_page_is_read_as_utf_8_whatever_the_locale() -> None:
    strictly = ("-X", "warn_default_encoding", "-W", "error::EncodingWarning")
    reading = "from api.static_texts import page; page('operations.html')"
    subprocess.run([sys.executable, *strictly, "-c", reading], cwd=ROOT, check=True)


def test_its_digest_is_computed_once() -> None:
    assert KEPT.etag is KEPT.etag


@pytest.mark.parametrize("tag", ["script", "style"])
def test_the_policy_allows_the_page_s_own_code_by_its_digest_and_no_other(tag: str) -> None:
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in contents]
    assert len(contents) == sum(name == tag for name, _ in ELEMENTS) == 1
    assert DIRECTIVES[f"{tag}-src"] == " ".join(f"'sha256-{digest}'" for digest in digests)


def test_the_policy_forbids_what_it_does_not_name() -> None:
    assert DIRECTIVES["default-src"] == "'none'"
    assert DIRECTIVES["connect-src"] == "'self'"
    assert {DIRECTIVES[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert (DIRECTIVES["require-trusted-types-for"], DIRECTIVES["trusted-types"]) == ("'script'", "'none'")
    assert "unsafe" not in POLICY


def test_nothing_is_loaded_from_anywhere() -> None:
    loaded = [value or "" for _, attributes in ELEMENTS for name, value in attributes.items() if name in LOADING]
    assert all(value.startswith(("#", "data:")) or value in {"healthz", "api/v1/operations"} for value in loaded)
    assert re.findall(r"https?://[^'\s]+", PAGE) == ["http://www.w3.org/2000/svg"] * 2


def test_no_code_hides_in_attributes() -> None:
    names = {name for _, attributes in ELEMENTS for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("sink", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Storage"])
def test_no_text_becomes_html_and_nothing_is_stored(sink: str) -> None:
    assert sink not in PAGE


def test_every_control_has_a_name_and_every_reference_a_target() -> None:
    ids = [attributes["id"] for _, attributes in ELEMENTS if "id" in attributes]
    named = {attributes["aria-labelledby"] for _, attributes in ELEMENTS if "aria-labelledby" in attributes}
    asked = set(re.findall(r"\$\('([\w-]+)'\)", PAGE))
    assert len(ids) == len(set(ids))
    assert named | asked <= set(ids)
