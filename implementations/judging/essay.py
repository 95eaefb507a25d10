"""An essay, and the fence around it in a prompt, which nothing in the essay can pass for.

Essays are hostile input: what looks like our tag inside one, or like a token that ends the message or the reasoning for
some model, is escaped, and nothing is removed.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from sys import getsizeof

from api_models import UNSEEN

MARK_HEX_DIGITS = 16
CROWD = 1_000  # brackets that may have to be escaped
LONG = 8_192  # characters: the usual essay is shorter
# What a model may read as our tag: look-alike brackets and slashes, letters in other styles and scripts, and characters
# anywhere that show nothing or only mark a letter.
_UNSEEN = UNSEEN + "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\U000e0000-\U000e01ef"
_BRACKETS = "<\u00ab\u2039\u226e\u2329\u276c\u276e\u2770\u27e8\u27ea\u3008\u300a\ufe3d\ufe3f\ufe64\uff1c"
_SLASHES = "/\\\\\u2044\u2215\u29f8\ufe68\uff0f\uff3c"
_STYLES = (range(0x80, 0x2500), range(0xFF00, 0xFFF0), range(0x1D400, 0x1D800), range(0x1F100, 0x1F200))
_SCRIPTS = {"e": "\u0435\u03b5\u212e", "s": "\u0455", "a": "\u0430\u0251\u03b1", "y": "\u0443\u04af\u03b3\u03c5"}


def _alike(letter: str) -> str:
    """A regex character class of everything that looks like the letter, bare or composed with a mark."""
    bare = re.compile(f"[{letter}{_SCRIPTS[letter]}][{_UNSEEN}]*")
    styled = (chr(code) for codes in _STYLES for code in codes)
    same = (one for one in styled if bare.fullmatch(unicodedata.normalize("NFKD", one).casefold()))
    return f"[{letter}{_SCRIPTS[letter]}{''.join(same)}]"


_WORD = f"[{_UNSEEN}]*".join(_alike(letter) for letter in "essay")
_FENCE_LIKE = rf"""
    (?i:[{_BRACKETS}](?=
        [\s{_SLASHES}{_UNSEEN}]*+{_WORD}(?:(?!\w)|[{_UNSEEN}])
        | [^{_BRACKETS}>]*/(?:no_)?think  # deleted by Nemotron's chat template: </es/thinksay> <SPECIAL_/think11>
    ))
"""
# Self-hosted servers take the control tokens of their model also in what a user wrote (vLLM's pull request 31735, issue
# 24382 of llama.cpp, 15931 of Ollama). Escaped are those that end a message, and those that end the judge's reasoning:
# servers find that end in the prompt too (vLLM's pull request 32490), and in a quotation (issue 27661 of llama.cpp), so
# that the verdict behind it, which is the essay's, would count. No more: a [NAME] that stands for a pupil's stays.
_CONTROL = r"""
    <(?=
        [|\uff5c] | \w{1,32}\|>  # <|im_end|> <turn|>
        | /?(?:
            s | bos | eos | pad | unk | sep | (?:start|beginning|end)_of_\w{1,32}  # Llama, Gemma, Reka, MiniMax
            | (?:seed:|longcat_|SPECIAL_|extra_id_)\w{1,32}  # Seed-OSS, LongCat, Nemotron
            | role | system | user | assistant  # Ling, Laguna
            | [\w:|]{0,32}(?:think|tool_call)[\w:|]{0,48}  # </think> <mm:think>
        )>
    )
    | \[(?=
        \| | e~\[  # [|user|] [e~[
        | /?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK|unused\d{1,2})\]  # [/INST]
    )
    | \]~(?=!?b[][])  # MiniMax: ]~b] ]~!b[
"""
_TAG_LIKE = re.compile(f"{_FENCE_LIKE}|{_CONTROL}", re.VERBOSE)


@dataclass(frozen=True, slots=True)
class Essay:
    """A plain text and its SHA-256 in hex, computed once."""

    text: str
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the digest."""
        object.__setattr__(self, "sha256", hashlib.sha256(encoded(self.text)).hexdigest())


def fence(letter: str, essay: Essay) -> str:
    """The essay between tags whose mark is a digest of its text; tags inside it are escaped, nothing is removed."""
    mark = essay.sha256[:MARK_HEX_DIGITS]
    return f'<essay id="{letter}" mark="{mark}">\n{_harmless(essay.text)}\n</essay id="{letter}" mark="{mark}">'


def fenced_bytes(text: str) -> int:
    """Memory of the text inside its fence, in bytes: an escaped character is up to eight times as long.

    What that adds to a usual essay is not worth looking for, since each request would look again for a known answer.
    """
    if len(text) < LONG:
        return getsizeof(text)
    escaped = sum(text.count(one) * (len(_escaped(one)) - len(one)) for one in _escapable(text))
    return getsizeof(text) * (len(text) + escaped) // len(text)


def _harmless(text: str) -> str:
    """Escape what looks like our tag or a control token.

    Where more than CROWD may have to be, all of them are: matching a million would block the event loop.
    """
    escapable = _escapable(text)
    if not escapable:
        return text
    if sum(map(text.count, escapable)) <= CROWD:
        return _TAG_LIKE.sub(lambda one: _escaped(one.group()), text)
    for one in escapable:
        text = text.replace(one, _escaped(one))
    return text


def _escapable(text: str) -> list[str]:
    """Opening brackets, and "]~", that occur in it. Most essays hold none at all, which is fast to check."""
    return [one for one in (*("<[" if text.isascii() else f"{_BRACKETS}["), "]~") if one in text]


def _escaped(one: str) -> str:
    return "&lt;" if one == "<" else f"{one[:-1]}&#{ord(one[-1])};"


def encoded(text: str) -> bytes:
    """UTF-8, also of a lone surrogate: callers cannot send one, and hashing is not the place to reject it."""
    return text.encode(errors="surrogatepass")
