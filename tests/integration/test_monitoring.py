"""Whatever a panel, a rule, a manifest or a page names is in a scrape, with the labels that are asked for."""

import re

from tests.integration.dialects import OPENAI
from tests.integration.pointed_service import running
from tests.integration.stand_in import answer, standing_in
from tests.monitoring_files import DASHBOARD, ROOT, RULES, names_in, panel_expressions, series_of

SELECTED = re.compile(r"\b(llm_provider\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
EXPRESSIONS = [expression for _, expression in panel_expressions()] + [rule["expr"] for rule in RULES]


async def scrape() -> str:
    """What the service offers after its first comparison."""
    async with (
        standing_in(answer(OPENAI.good())) as provider,
        running(**OPENAI.variables(provider.url), REDIS_URL="redis://127.0.0.1:9") as service,
    ):
        assert (await service.judges(OPENAI)).status == 200
        return (await service.reads("/metrics")).text


def values(text: str, name: str, label: str) -> set[str]:
    return set(re.findall(rf'^{name}\{{(?:.*,)?{label}="([^"]*)"', text, re.MULTILINE))


async def test_every_name_stands_in_the_scrape() -> None:
    offered = series_of(await scrape())

    for expression in EXPRESSIONS:
        assert names_in(expression) <= offered
    assert names_in(DASHBOARD["templating"]["list"][1]["query"]) <= offered
    for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("deploy/k8s/*.yaml")):
        assert names_in(path.read_text()) <= offered, path


async def test_every_label_has_the_values_that_are_asked_for() -> None:
    text = await scrape()
    asked = {
        (name, label, wanted)
        for expression in EXPRESSIONS
        for name, matchers in SELECTED.findall(expression)
        for label, _, alternatives in MATCHER.findall(matchers)
        if label != "instance"
        for wanted in alternatives.split("|")
    }

    assert {label for _, label, _ in asked} >= {"endpoint", "status_code", "le", "reason", "mode"}
    missing = [one for one in asked if not any(re.fullmatch(one[2], found) for found in values(text, one[0], one[1]))]
    assert missing == []
