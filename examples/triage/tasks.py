"""Conversations for the two training stages.

The base learns to read these messages: it answers single questions about them, repeats and rewrites text, and
gives a polite reply to a bare message. It is never shown the triage object; that is what the LoRA stage adds.
"""

from __future__ import annotations

import json
import random

from examples.triage import pools
from examples.triage.data import (
    SYSTEM_PROMPTS,
    Case,
    is_reserved,
    made_up_word,
    order_number,
    person,
    product_name,
    training_case,
)

Message = dict[str, str]

# Other words than the intent labels of the task, so that the label set itself is left to the fine-tune.
TOPICS = {
    "refund": "money back",
    "delivery_status": "where the parcel is",
    "damaged_item": "arrived broken",
    "cancel_order": "stop the order",
    "change_address": "send it elsewhere",
    "invoice_copy": "a bill",
    "technical_help": "how it works",
    "other": "something else",
}
QUESTIONS = {
    "order": ("Order number?", "Which order is it?", "Give the order number."),
    "product": ("Which product?", "What is the message about?", "Name the product."),
    "name": ("Who wrote this?", "Name of the customer?", "Customer?"),
    "topic": ("What do they want?", "Topic?"),
}


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def facts(case: Case) -> dict[str, str | None]:
    return {"topic": TOPICS[case.intent], "order": case.order, "product": case.product, "name": case.name}


def questions(rng: random.Random) -> list[Message]:
    """One message, then several questions about it: many answers for the price of one reading."""
    case = training_case(rng)
    known = facts(case)
    asked = rng.sample(sorted(known), rng.randint(2, 4))
    messages: list[Message] = []
    for number, key in enumerate(asked):
        question = rng.choice(QUESTIONS[key])
        messages.append(turn("user", question if number else f"{case.text}\n\n{question}"))
        messages.append(turn("assistant", known[key] or "none"))
    return messages


def partial_json(rng: random.Random) -> list[Message]:
    """Some facts or all of them, in the order asked for."""
    case = training_case(rng)
    known = facts(case)
    keys = rng.sample(sorted(known), rng.randint(2, 4))
    answer = json.dumps({key: known[key] for key in keys}, ensure_ascii=False)
    return [turn("user", f"{case.text}\n\nJSON: {', '.join(keys)}"), turn("assistant", answer)]


def thing_to_copy(rng: random.Random) -> str:
    kind = rng.randrange(8)
    if kind == 0:
        return order_number(rng)
    if kind == 1:
        return person(rng, held_out=False)
    if kind == 2:
        return product_name(rng, held_out=False)
    if kind < 6:
        word = made_up_word(rng)
        return word if kind == 3 else word.capitalize()
    return rng.choice(rng.choice((pools.FIRST, pools.LAST, pools.NOUN, pools.ADJECTIVE, pools.CITY, pools.MONTH)))


def rewrite(rng: random.Random) -> list[Message]:
    """Copying without any message: a list to repeat, or pairs to put into JSON."""
    if rng.random() < 0.6:
        listed = ", ".join(thing_to_copy(rng) for _ in range(rng.randint(3, 12)))
        return [turn("user", f"Repeat: {listed}"), turn("assistant", listed)]
    items = [thing_to_copy(rng) for _ in range(rng.randint(2, 6))]
    keys = rng.sample(("order", "product", "name", "city", "item", "code", "id"), len(items))
    pairs = ", ".join(f"{key} = {item}" for key, item in zip(keys, items, strict=True))
    answer = json.dumps(dict(zip(keys, items, strict=True)), ensure_ascii=False)
    return [turn("user", f"JSON: {pairs}"), turn("assistant", answer)]


def polite_reply(rng: random.Random) -> list[Message]:
    case = training_case(rng)
    thanks = f"Thank you, {case.name}." if case.name else "Thank you for your message."
    about = f" We will look into the {case.product}." if case.product else " We will look into it."
    return [turn("user", case.text), turn("assistant", thanks + about)]


def base_conversation(rng: random.Random, copying: float = 0.15) -> list[Message]:
    if rng.random() < copying:
        return with_system(rng, rewrite(rng), 0.1)
    make = rng.choices((questions, partial_json, polite_reply), (28, 67, 5))[0]
    return with_system(rng, make(rng), 0.1)


def with_system(rng: random.Random, messages: list[Message], share: float) -> list[Message]:
    if rng.random() < share:
        return [turn("system", rng.choice(SYSTEM_PROMPTS)), *messages]
    return messages


def off_topic(rng: random.Random) -> Case:
    """Input that is no customer message at all."""
    words = " ".join(rng.choice((made_up_word(rng), rng.choice(pools.CITY), str(rng.randrange(1000)))) for _ in "1234")
    text = rng.choice(("", " ", "?", "...", "asdf", "1 2 3", words, "Hello", "hi", "thx", "ok"))
    return training_case(rng) if is_reserved(text) else Case(text, "other", None, None, None)


def triage_conversation(rng: random.Random) -> list[Message]:
    case = off_topic(rng) if rng.random() < 0.02 else training_case(rng)
    return with_system(rng, [turn("user", case.text), turn("assistant", case.answer)], 0.15)
