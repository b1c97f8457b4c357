"""Names of tensors under what was wrapped around a model while it was trained or saved: taken off, so that one name
means one weight."""

from __future__ import annotations

from collections.abc import Collection, Iterable

# Parts of a name that stand for a wrapper wherever they stand: torch.compile's, and those of FSDP.
_MARKS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# And that of peft, which is one in models alone that are saved with adapters of their own.
_UNDER_ADAPTERS = "base_layer"
_LORA = ("lora_A", "lora_B")
_EMBEDDING, _HEAD = "embed_tokens.weight", "lm_head"
_USUAL = "model."
_GUESSING = "mtp."
_AROUND_TEXT = ("model.language_model.", "language_model.model.")
_TEXT = "language_model"
"""In the names that begin with it, everything is the text model's; others have towers beside the layers."""


def without_marks(name: str, marks: Collection[str] = _MARKS) -> str:
    """The name without the parts that stand for a wrapper."""
    return ".".join(part for part in name.split(".") if part not in marks)


def usual_module(name: str) -> str:
    """The name of a module, or of one of its tensors, inside the model that an adapter was trained on."""
    name = without_marks(name)
    while name.startswith("module."):
        name = name.removeprefix("module.")
    inner = next((around for around in _AROUND_TEXT if name.startswith(around)), None)
    return name if inner is None else _USUAL + name.removeprefix(inner)


def usual_names(names: Iterable[str], *, adapted: bool = False) -> tuple[dict[str, str], str]:
    """The names of a decoder's tensors as transformers saves them, and what stood before them in a few words.

    The embedding shows what stands before all of them, however it is nested: `module.`, `base_model.model.`,
    `model.language_model.` in place of `model.`, or nothing at all. "" for names that are as usual.
    adapted: modules may be saved as the base of adapters that lay beside them.
    """
    marks = _MARKS | {_UNDER_ADAPTERS} if adapted else _MARKS
    bare = {name: without_marks(name, marks) for name in names}
    embeddings = [name for name in bare.values() if name == _EMBEDDING or name.endswith(f".{_EMBEDDING}")]
    if not embeddings:
        return {name: name for name in bare}, ""
    prefix = min(embeddings, key=len).removesuffix(_EMBEDDING)
    found = {name: _usual(plain, prefix) for name, plain in bare.items()}
    if all(name == plain for name, plain in found.items()):
        return found, ""
    example = next(name for name, plain in found.items() if name != plain)
    return found, f"{example} is read as {found[example]}, and the other tensors in the same way"


def guesses_ahead(names: Iterable[str]) -> bool:
    """Whether there are layers that guess more than the next token, which transformers leaves out too."""
    return any(name.startswith(_GUESSING) for name in names)


def unmerged(names: Iterable[str], *, adapted: bool = False) -> str | None:
    """The name of a tensor that shows an adapter beside the base; None where there is none.

    adapted: modules that are saved as the base of adapters are no such sign.
    """
    signs = (".lora_A.",) if adapted else (".lora_A.", f".{_UNDER_ADAPTERS}.")
    return next((name for name in names if any(sign in name for sign in signs)), None)


def of_adapters(names: Iterable[str], adapters: Collection[str]) -> dict[str, list[str]]:
    """The names of tensors that are of LoRA adapters called so, in words for each adapter."""
    found: dict[str, list[str]] = {}
    for name in names:
        _, lora, adapter, *_ = ("", "", "", *name.split("."))[-4:]
        if lora in _LORA and adapter in adapters:
            found.setdefault(f"LoRA for {adapter}", []).append(name)
    return found


def others_than_text(names: Iterable[str], skipped: Collection[int] = ()) -> dict[str, list[str]]:
    """The names of tensors that are none of a text model's, by the module that they are of: towers, projectors, layers
    that guess tokens ahead, and the `skipped` ones between the text's, which look at pictures.

    What the shortest name of an embedding begins with is what the text model's begin with: its layers and last norm.
    """
    every = list(names)
    embeddings = [name for name in every if name == _EMBEDDING or name.endswith(f".{_EMBEDDING}")]
    if not embeddings:
        return {}
    prefix = min(embeddings, key=len).removesuffix(_EMBEDDING)
    found: dict[str, list[str]] = {}
    looking = tuple(f"{prefix}layers.{number}." for number in skipped)
    told = f"cross-attention layers {', '.join(map(str, sorted(skipped)))}"
    for name in every:
        if name.startswith(looking):
            found.setdefault(told, []).append(name)
            continue
        module = name.removeprefix(prefix).partition(".")[0] if name.startswith(prefix) else ""
        of_text = module in ("layers", _EMBEDDING.partition(".")[0]) or module.endswith("norm")
        if not (of_text or (module and _TEXT in prefix)) and _HEAD not in name:
            found.setdefault(name.removeprefix(_USUAL).partition(".")[0], []).append(name)
    return found


def _usual(name: str, prefix: str) -> str:
    *outer, last = name.split(".")
    if outer[-1:] == [_HEAD]:
        return f"{_HEAD}.{last}"
    if name.startswith(prefix):
        return _USUAL + name.removeprefix(prefix)
    around = prefix.removesuffix(_USUAL) if prefix.endswith(f".{_USUAL}") else prefix
    return name.removeprefix(around)
