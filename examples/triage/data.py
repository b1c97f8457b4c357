"""Customer messages and the JSON object each must be answered with. Pure: all chance is a seeded Random."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from examples.triage import phrases, pools
from examples.triage.wordings import CORE_TRAIN

INTENTS = tuple(CORE_TRAIN)
SEEN, NEW = "seen wording", "new wording"
SYSTEM_PROMPTS = (
    "You sort customer mail.",
    "Answer with one JSON object.",
    "Read the message and return intent, order, product and name as JSON.",
    "You are a helpful assistant.",
)
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"(\{\w+\})")
_ONSETS = (
    *tuple("bcdfghjklmnprstvwyz"),
    "bl",
    "br",
    "ch",
    "cl",
    "dr",
    "fl",
    "gr",
    "kn",
    "ph",
    "qu",
    "sch",
    "sh",
    "st",
    "th",
)
_NUCLEI = (*tuple("aaeeiioouuy"), "ai", "au", "ea", "ee", "ei", "ie", "oa", "oo", "ou")
_ENDINGS = (
    "",
    "",
    "",
    "",
    "",
    "",
    *"nmrlstdkpgxb",
    "ck",
    "ll",
    "tt",
    "ng",
    "nd",
    "nt",
    "rt",
    "rg",
    "st",
    "lm",
    "th",
    "tz",
)


@dataclass(frozen=True)
class Case:
    """One message with its fields; `None` where the message does not give one."""

    text: str
    intent: str
    order: str | None
    product: str | None
    name: str | None

    @property
    def answer(self) -> str:
        fields = {"intent": self.intent, "order": self.order, "product": self.product, "name": self.name}
        return json.dumps(fields, ensure_ascii=False)


def expand(rng: random.Random, grammar: str) -> str:
    """Resolve every `[a|b]` from the inside out."""
    while match := _CHOICE.search(grammar):
        grammar = grammar[: match.start()] + rng.choice(match[1].split("|")) + grammar[match.end() :]
    return grammar


def made_up_word(rng: random.Random) -> str:
    """A word nobody has seen: copying has to work on spelling, not on a memorised list."""
    syllables = rng.choices((1, 2), (55, 45))[0]
    return "".join(rng.choice(group) for _ in range(syllables) for group in (_ONSETS, _NUCLEI, _ENDINGS))


def order_number(rng: random.Random) -> str:
    shape = rng.choice(("@-#####", "@-#####", "######", "@@-####-##"))
    shape = re.sub("@", lambda _: rng.choice("ABCDEFGHKLMNPRSTWX"), shape)
    return re.sub("#", lambda _: str(rng.randrange(10)), shape)


def person(rng: random.Random, held_out: bool) -> str:
    firsts = pools.FIRST_HELD if held_out and rng.random() < 0.1 else pools.FIRST
    lasts = pools.LAST_HELD if held_out and rng.random() < 0.1 else pools.LAST
    # Training has more made-up words than the held-out cases: they teach to copy what was never seen.
    last = rng.choice(lasts) if rng.random() < (0.85 if held_out else 0.7) else made_up_word(rng).capitalize()
    first = rng.choice(firsts) if rng.random() < (0.95 if held_out else 0.8) else made_up_word(rng).capitalize()
    form = rng.choices(("full", "first", "initial", "lower"), (82, 9, 5, 4) if held_out else (66, 16, 8, 10))[0]
    if form == "first":
        return first
    if form == "initial":
        return f"{first[0]}. {last}"
    return f"{first} {last}".lower() if form == "lower" else f"{first} {last}"


def made_up_product(rng: random.Random) -> str:
    """A made-up word, or two words that do not usually go together: where a product's name ends must be read, too."""
    first, second = (rng.choice(pools.NOUN).split() for _ in range(2))
    words = [rng.choice((made_up_word(rng), first[0])), rng.choice((made_up_word(rng), second[-1]))]
    return words[0] if rng.random() < 0.25 else " ".join(words)


def product_name(rng: random.Random, held_out: bool) -> str:
    noun = rng.choice(pools.NOUN_HELD if held_out and rng.random() < 0.1 else pools.NOUN)
    if not held_out and rng.random() < 0.2:
        noun = made_up_product(rng)
    draw = rng.random()
    if draw < 0.25:
        return f"{rng.choice(pools.ADJECTIVE)} {noun}"
    if draw < 0.40:
        model = rng.choice(("", "", f" {rng.randint(1, 9)}", f" {rng.randint(10, 90)}0", " Pro"))
        return f"{made_up_word(rng).capitalize()}{model} {noun}"
    return noun


def _digits(rng: random.Random, count: int) -> str:
    return "".join(str(rng.randrange(10)) for _ in range(count))


def filler(rng: random.Random, slot: str, held_out: bool) -> str:
    """A value for a slot that is no field: the distractors."""
    if slot == "date":
        day, month = rng.randint(1, 28), rng.choice(pools.MONTH)
        return rng.choice((f"{day} {month}", f"{month} {day}", f"{day}.{rng.randint(1, 12)}."))
    if slot == "price":
        amount = f"{rng.randint(4, 399)}.{rng.choice(('00', '50', '90', '95', '99'))}"
        return rng.choice((f"{amount} euros", f"€{amount}", f"${amount}", f"{amount} EUR"))
    if slot == "phone":
        abroad = f"+{rng.randint(30, 49)} {_digits(rng, 3)} {_digits(rng, 6)}"
        return rng.choice((abroad, f"0{_digits(rng, 9)}"))
    if slot == "address":
        return f"{rng.choice(pools.STREET)} {rng.randint(1, 180)}, {_digits(rng, 5)} {rng.choice(pools.CITY)}"
    if slot == "email":
        return f"{rng.choice(pools.FIRST).lower()}{rng.randint(1, 99)}@example.{rng.choice(('org', 'com'))}"
    if slot == "person":
        return rng.choice(pools.FIRST) if rng.random() < 0.5 else person(rng, held_out)
    simple = {"city": pools.CITY, "month": pools.MONTH}
    if slot in simple:
        return rng.choice(simple[slot])
    if slot == "product2":
        return product_name(rng, held_out)
    return _digits(rng, {"customer": 6, "tracking": 14}[slot])


def misspell(rng: random.Random, text: str, rate: float) -> str:
    """Swap, drop or double a letter inside some words of four letters or more."""

    def slip(match: re.Match[str]) -> str:
        word = match[0]
        if rng.random() >= rate:
            return word
        at = rng.randrange(1, len(word) - 1)
        kind = rng.randrange(3)
        if kind == 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return word[:at] + word[at + 1 :] if kind == 1 else word[:at] + word[at] + word[at:]

    return re.sub(r"[A-Za-z]{4,}", slip, text)


class Writer:
    """Writes one message; holds the choices that all its sentences share."""

    def __init__(self, rng: random.Random, held_out: bool, new_wording: bool) -> None:
        self.rng, self.held_out, self.new_wording = rng, held_out, new_wording
        self.intent = rng.choice(INTENTS)
        self.fields: dict[str, str | None] = {
            "order": order_number(rng) if rng.random() < 0.8 else None,
            "product": product_name(rng, held_out) if rng.random() < 0.85 else None,
            "name": person(rng, held_out) if rng.random() < 0.75 else None,
        }
        self.used: set[str] = set()
        self.typo_rate = rng.choice((0.0, 0.0, 0.04, 0.1))
        self.lower = rng.random() < 0.15

    def pick(self, usual: Sequence[str], new: Sequence[str]) -> str:
        return self.rng.choice(new if self.new_wording and self.rng.random() < 0.35 else usual)

    def frame(self, grammar: str) -> str:
        """Resolve choices and the two slots that stand for a phrase."""
        rng = self.rng
        grammar = expand(rng, grammar)
        if "{thing}" in grammar:
            named = "[the|my|the|my|the new|my new|this] {product}"
            unnamed = "[it|my order|the parcel|the item|the thing I bought|what I ordered]"
            grammar = grammar.replace("{thing}", named if self.fields["product"] else unnamed, 1)
            grammar = grammar.replace("{thing}", "it")
        if "{ref}" in grammar:
            inline = self.fields["order"] is not None and rng.random() < 0.6
            grammar = grammar.replace("{ref}", self.pick(phrases.REF, phrases.REF_NEW) if inline else "")
        sentence = expand(rng, grammar).replace("  ", " ")
        return sentence[:1].upper() + sentence[1:] if sentence[:1].isalpha() else sentence

    def fill(self, sentence: str) -> str:
        """Put slot values in; only the words between them may be misspelt or lose their capitals."""
        out: list[str] = []
        for part in _SLOT.split(sentence):
            slot = part[1:-1]
            if not part.startswith("{"):
                part = misspell(self.rng, part, self.typo_rate)
                out.append(part.lower() if self.lower else part)
            elif slot in self.fields:
                self.used.add(slot)
                out.append(self.fields[slot] or "")
            else:
                out.append(filler(self.rng, slot, self.held_out))
        return "".join(out)

    def sentences(self) -> list[str]:
        rng = self.rng
        core = (phrases.CORE_NEW if self.new_wording else CORE_TRAIN)[self.intent]
        body = [self.frame(rng.choice(core))]
        if self.fields["order"] and "{order}" not in body[0]:
            line = self.frame(self.pick(phrases.ORDER_LINE, phrases.ORDER_LINE_NEW))
            body.insert(rng.randrange(2), line)
        for _ in range(rng.choices((0, 1, 2), (50, 38, 12))[0]):
            extra = self.frame(self.pick(phrases.DISTRACTOR, phrases.DISTRACTOR_NEW))
            body.insert(rng.randint(0, len(body)), extra)
        signed = rng.random() < 0.6
        if self.fields["name"] and not signed:
            line = self.frame(self.pick(phrases.NAME_LINE, phrases.NAME_LINE_NEW))
            body.insert(rng.randint(0, len(body)), line)
        if rng.random() < 0.5:
            body.insert(0, self.frame(self.pick(phrases.GREETING, phrases.GREETING_NEW)))
        if self.fields["name"] and signed:
            body.append(self.frame(self.pick(phrases.SIGNATURE, phrases.SIGNATURE_NEW)))
        elif rng.random() < 0.4:
            body.append(rng.choice(phrases.CLOSING))
        return body

    def write(self) -> Case:
        parts = [self.fill(sentence) for sentence in self.sentences()]
        text = ""
        for part in parts:
            text += (self.rng.choice((" ", " ", " ", "\n")) if text else "") + part
        if self.rng.random() < 0.1:
            text = text.rstrip(".!?")
        found = {key: value if key in self.used else None for key, value in self.fields.items()}
        return Case(text, self.intent, found["order"], found["product"], found["name"])


def is_reserved(text: str) -> bool:
    """One message in sixteen, chosen by its own text, is for evaluation only: none can be on both sides."""
    return zlib.crc32(" ".join(text.lower().split()).encode()) % 16 == 0


def training_case(rng: random.Random) -> Case:
    while True:
        case = Writer(rng, held_out=False, new_wording=False).write()
        if not is_reserved(case.text):
            return case


def held_out_cases(rng: random.Random, seen: int, new: int) -> list[tuple[str, Case]]:
    """Distinct held-out messages, tagged by slice."""
    wanted = [SEEN] * seen + [NEW] * new
    texts: set[str] = set()
    cases: list[tuple[str, Case]] = []
    while len(cases) < len(wanted):
        slice_name = wanted[len(cases)]
        case = Writer(rng, held_out=True, new_wording=slice_name == NEW).write()
        if is_reserved(case.text) and case.text not in texts:
            texts.add(case.text)
            cases.append((slice_name, case))
    rng.shuffle(cases)
    return cases
