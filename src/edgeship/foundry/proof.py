"""Proves that Foundry Local runs a package: in a process of its own, which may die of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeship.engine.answer import ask
from edgeship.engine.api import Conversation, Message, Sampling, Usage
from edgeship.errors import EngineFailed
from edgeship.progress import Progress
from edgeship.system import child, worker

QUESTION = "Hello"
"""What a model is asked to prove that it answers."""
_PROOF_TOKENS = 4


@dataclass(frozen=True)
class Proof:
    """That a model was loaded, asked and unloaded. answer: its first tokens."""

    question: str
    answer: str
    usage: Usage


def prove(folder: Path, conversations: Sequence[Sequence[Message]] = ()) -> Proof:
    """Loads a folder in Foundry Local, asks it and unloads it.

    conversations: whose prompts Foundry Local must render as the package's template does.
    Raises EngineFailed, TemplateMismatch, FoundryFailed, DependencyMissing.
    """
    job = {"folder": str(folder.absolute()), "conversations": [list(map(dict, each)) for each in conversations]}
    try:
        found = child.run(__name__, job)
    except child.Died as death:
        hint = "Run the package with Edgeship's own engine to see whether it works there: `edgeship model run NAME`."
        raise death.as_error(EngineFailed, "the process with Foundry Local", where=str(folder), hint=hint) from death
    proof = Proof(QUESTION, found["answer"], Usage(**found["usage"]))
    if proof.usage.completion_tokens < 1:
        raise EngineFailed(
            f"Foundry Local loads the model, and it answers {QUESTION!r} with nothing",
            where=str(folder),
            hint="Run the package with Edgeship's own engine to see whether it answers: `edgeship model run NAME`.",
        )
    return proof


def _work(job: dict[str, Any], progress: Progress) -> dict[str, Any]:  # noqa: ARG001 - it takes seconds
    from edgeship.foundry.engine import FoundryEngine

    with FoundryEngine(Path(job["folder"])) as model:
        for messages in job["conversations"]:
            model.check(Conversation(messages))
        question = Conversation([{"role": "user", "content": QUESTION}])
        answer = ask(model, question, Sampling(temperature=0.0, max_tokens=_PROOF_TOKENS))
    return {"answer": answer.text, "usage": asdict(answer.usage)}


if __name__ == "__main__":
    worker.serve(_work)
