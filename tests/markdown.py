"""Where links into a page of Markdown may point to."""

import re
from pathlib import Path

HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As a page of Markdown is shown: lower case, words joined by hyphens, without signs."""
    titles = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
