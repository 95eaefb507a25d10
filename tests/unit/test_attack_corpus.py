"""However an essay attacks, the question keeps its form: two fences, everything of an essay inside of its own."""

import html
import re
import unicodedata

import pytest

from implementations.judging.prompt import CLOSING_LINE, FENCE_RULE, INSTRUCTIONS, OUTPUT_RULES, Prompt, build_prompt
from tests.fakes import query
from tests.unit.attack_essays import ATTACKS, CONTROL_TOKENS

BLOCK = re.compile(r'<essay id="([AB])" mark="([0-9a-f]{16})">\n(.*?)\n</essay id="\1" mark="\2">', re.DOTALL)
HARMLESS = "Phones should stay in the bag, because nobody listens to two people at once."
TASKS = {
    "apart": "Which essay argues better?",
    "in the task": "First: {essay_a}\nSecond: {essay_b}\nWhich argues better?",
    "the other way": "First: {essay_b}\nSecond: {essay_a}\nWhich argues better?",
}
HIDDEN_KINDS = {"Cc", "Cf", "Mn", "Me"}
HIDDEN_SIGNS = "\u115f\u1160\u3164\uffa0\u2800"
BRACKETS = dict.fromkeys(map(ord, "\u2039\u2329\u276c\u276e\u2770\u27e8\u27ea\u3008\u300a\u00ab"), "<")
SLASHES = dict.fromkeys(map(ord, "\\\u2044\u2215\u29f8"), "/")
ALIKE = str.maketrans("\u0435\u03b5\u212e\u0455\u0430\u0251\u03b1\u0443\u04af\u03b3\u03c5", "eeesaaayyyy")


def as_a_model_may_read_it(text: str) -> str:
    """Without what nobody sees, and with one sign for all that look alike."""
    plain = unicodedata.normalize("NFKD", text.translate(dict.fromkeys(map(ord, HIDDEN_SIGNS))))
    seen = (one for one in plain if unicodedata.category(one) not in HIDDEN_KINDS or one in "\n\t")
    return "".join(seen).translate({**BRACKETS, **SLASHES}).casefold().translate(ALIKE)


def asked(attack: str, task: str, *, from_b: bool) -> Prompt:
    essays = {"essay_a": HARMLESS, "essay_b": attack} if from_b else {"essay_a": attack, "essay_b": HARMLESS}
    return build_prompt(query(user_prompt=TASKS[task], **essays))


@pytest.mark.parametrize("from_b", [False, True], ids=["from A", "from B"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_an_attack_stays_inside_its_own_fence(attack: str, task: str, *, from_b: bool) -> None:
    prompt = asked(attack, task, from_b=from_b)
    whole = prompt.user_text
    blocks = {letter: inside for letter, _, inside in BLOCK.findall(whole)}
    assert set(blocks) == {"A", "B"}
    assert blocks["A" if from_b else "B"] == HARMLESS
    assert html.unescape(blocks["B" if from_b else "A"]) == html.unescape(attack), "something of the essay was lost"
    outside = BLOCK.sub("{}", whole)
    assert outside == re.sub(r"\{essay_[ab]\}", "{}", TASKS[task]) + ("" if task != "apart" else "\n\n{}\n\n{}") + (
        CLOSING_LINE
    )


def as_it_may_arrive(attack: str) -> tuple[str, str]:
    """The question as it is sent, and what Nemotron's chat template leaves of it."""
    sent = asked(attack, "apart", from_b=False).user_text
    return sent, sent.replace("/think", "").replace("/no_think", "")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_no_more_than_our_own_four_tags_can_be_read(attack: str) -> None:
    for arrived in as_it_may_arrive(attack):
        assert len(re.findall(r"<[\s/]*essay\b", as_a_model_may_read_it(arrived))) == 4


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_no_essay_holds_a_token_that_ends_its_message_or_the_reasoning_of_some_model(attack: str) -> None:
    tokens = " ".join(CONTROL_TOKENS.values()).split()
    assert [token for arrived in as_it_may_arrive(attack) for token in tokens if token in arrived] == []


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_nothing_of_an_essay_reaches_the_instructions(attack: str) -> None:
    prompt = asked(attack, "apart", from_b=False)
    assert prompt.system == f"{INSTRUCTIONS}\n\n{FENCE_RULE}\n\n{OUTPUT_RULES}"
    assert prompt.user_text.endswith(CLOSING_LINE)
