"""However an essay attacks, the question keeps its form: two fences, everything of an essay inside of its own."""

import html
import re

import pytest

from implementations.judging.prompt import CLOSING_LINE, FENCE_RULE, INSTRUCTIONS, OUTPUT_RULES, build_prompt
from protocols import Prompt
from tests.fakes import query
from tests.unit.attack_essays import ATTACKS

BLOCK = re.compile(r'<essay id="([AB])" mark="([0-9a-f]{16})">\n(.*?)\n</essay id="\1" mark="\2">', re.DOTALL)
HARMLESS = "Phones should stay in the bag, because nobody listens to two people at once."
TASKS = {
    "apart": "Which essay argues better?",
    "in the task": "First: {essay_a}\nSecond: {essay_b}\nWhich argues better?",
    "the other way": "First: {essay_b}\nSecond: {essay_a}\nWhich argues better?",
}
UNSEEN = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)])
TAGS = dict.fromkeys(range(0xE0000, 0xE0080))
ALIKE = str.maketrans(
    "\u0435\u0455\u0430\u0443\uff45\uff53\uff41\uff59\uff1c\ufe64\u2039\u27e8\u3008\uff0f\u2215\\", "esayesay<<<<<///"
)


def as_a_model_may_read_it(text: str) -> str:
    """Without what nobody sees, and with one sign for all that look alike."""
    return text.translate(UNSEEN).translate(TAGS).translate(ALIKE).casefold()


def asked(attack: str, task: str, *, from_b: bool) -> Prompt:
    essays = {"essay_a": HARMLESS, "essay_b": attack} if from_b else {"essay_a": attack, "essay_b": HARMLESS}
    return build_prompt(query(user_prompt=TASKS[task], **essays))


@pytest.mark.parametrize("from_b", [False, True], ids=["from A", "from B"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_an_attack_stays_inside_its_own_fence(attack: str, task: str, *, from_b: bool) -> None:
    prompt = asked(attack, task, from_b=from_b)
    whole = "".join(prompt.user)
    blocks = {letter: inside for letter, _, inside in BLOCK.findall(whole)}
    assert set(blocks) == {"A", "B"}
    assert blocks["A" if from_b else "B"] == HARMLESS
    assert html.unescape(blocks["B" if from_b else "A"]) == html.unescape(attack), "something of the essay was lost"
    outside = BLOCK.sub("{}", whole)
    assert outside == re.sub(r"\{essay_[ab]\}", "{}", TASKS[task]) + ("" if task != "apart" else "\n\n{}\n\n{}") + (
        CLOSING_LINE
    )


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_no_more_than_our_own_four_tags_can_be_read(attack: str) -> None:
    read = as_a_model_may_read_it("".join(asked(attack, "apart", from_b=False).user))
    assert len(re.findall(r"<\s*(?:/\s*)?essay\b", read)) == 4


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_nothing_of_an_essay_reaches_the_instructions(attack: str) -> None:
    prompt = asked(attack, "apart", from_b=False)
    assert prompt.system == f"{INSTRUCTIONS}\n\n{FENCE_RULE}\n\n{OUTPUT_RULES}"
    assert prompt.user[-1] == CLOSING_LINE
