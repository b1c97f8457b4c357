"""A build becomes a package: a folder that any reader of onnxruntime-genai folders can run. Manifest last."""

from __future__ import annotations

import codecs
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.builder import model_card
from edgeship.builder.description import describe
from edgeship.checkpoint import require_template
from edgeship.checkpoint.dimensions import DAMAGED
from edgeship.errors import BuilderFailed, UsageError
from edgeship.package import genai_config, inference_model, template, tokenizer
from edgeship.package import manifest as manifests
from edgeship.package.manifest import GENAI, MANIFEST_NAME, Manifest, Package
from edgeship.package.prompt_parts import PromptParts, derive_parts
from edgeship.package.tool_prompts import chosen_for
from edgeship.system.json_file import Complaint, write_object
from edgeship.system.storage import FileDigest, bring, digest_file, disk_errors, new_folder, write_file

if TYPE_CHECKING:
    from edgeship.builder import Build
    from edgeship.checkpoint import Checkpoint

CARD = "README.md"
NEUTRAL_SEARCH = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0, "top_k": 50}
"""What transformers takes where generation_config.json says nothing."""
MAX_LENGTH = 2048
_COPIED = (tokenizer.FILE_NAME, tokenizer.SPECIAL_TOKENS_NAME, "added_tokens.json", "vocab.json", "merges.txt")
# Classes that onnxruntime-genai's tokenizer knows; it refuses others, though tokenizer.json says all it needs.
_KNOWN_TOKENIZER = re.compile(
    r"(PreTrained|CLIP|Whisper|Gemma|InternLM2|Llama|Phi3|CodeLlama|CodeGen|GPT2|Qwen2|Baichuan|GPTNeoX|T5|ChatGLM"
    r"|XLMRoberta|Marian|DebertaV2)Tokenizer(Fast)?|TokenizersBackend|PythonBackend|MistralCommonBackend"
    r"|SentencePieceBackend"
)
_ELSEWHERE = "choose another output folder."
_BUILD_AGAIN = "Build it again."


@dataclass(frozen=True)
class Spelling:
    """How a package is written so that onnxruntime-genai reads the prompts that the model was trained with.

    template: the chat template that it gets. strip_apart: tokenizer.json is written `without_strip`.
    fault: why its prompts are others nevertheless; None where they are the same.
    """

    template: str
    strip_apart: bool = False
    fault: str | None = None


def write_package(
    build: Build,
    checkpoint: Checkpoint,
    folder: Path,
    spelling: Spelling | None = None,
    prove: Callable[[Package], object] = lambda _: None,
) -> Package:
    """Makes the package `folder`, whole or not at all; a package that is already there is replaced.

    spelling: how it is written for onnxruntime-genai; by default as the checkpoint has it.
    prove: looks at the finished package before it takes its place; what it raises keeps it from there.
    The same build and checkpoint make the same bytes, wherever, whenever and on whatever machine.
    Raises TemplateMissing, TemplateInvalid, UsageError where `folder` is something else, BuilderFailed, NotWritable,
    DiskShort.
    """
    spelling = spelling or Spelling(require_template(checkpoint))
    parts = derive_parts(spelling.template, checkpoint.special_tokens)
    folder = require_free(folder)
    with disk_errors(folder, _ELSEWHERE), new_folder(folder) as temporary:
        files = _bring_model(build, temporary) | bring_tokenizer(checkpoint, temporary, spelling)
        config = genai_config.read(build.folder, Complaint(BuilderFailed, _BUILD_AGAIN))
        name = inference_model.content_name(config.model_type, build.recipe.precision.value)
        write_object(temporary / genai_config.FILE_NAME, tune_genai_config(config.document, checkpoint))
        write_object(temporary / inference_model.FILE_NAME, inference_model.document(name, parts))
        others = (path.name for path in temporary.iterdir() if path.name not in files)
        manifest = Manifest(
            context_tokens=checkpoint.context_tokens,
            checkpoint=_describe(checkpoint, spelling.template),
            adapter=_describe_adapter(checkpoint),
            recipe=build.recipe.to_key(),
            build={"key": build.key, "builder": build.builder, "tools": dict(build.tools)},
            files=files | _digests(temporary, others),
            not_for={} if spelling.fault is None else {GENAI: spelling.fault},
        )
        write_file(temporary / CARD, model_card.render_card(name, manifest, parts))
        files = manifest.files | _digests(temporary, [CARD])
        made = manifests.write(temporary, manifest.model_copy(update={"files": dict(sorted(files.items()))}))
        checkpoint.require_unchanged()
        prove(made)
    return replace(made, folder=folder)


def require_packable(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What a package of this checkpoint will lack, in words, to be known before anything is converted.

    Raises TemplateMissing, TemplateInvalid.
    """
    parts = derive_parts(require_template(checkpoint), checkpoint.special_tokens)
    if isinstance(parts, PromptParts):
        return ()
    return (
        f"{inference_model.FILE_NAME} states no prompt parts, which only Foundry Local 1 needs: "
        f"they cannot be derived from the chat template: {parts.why}",
    )


def require_free(folder: Path) -> Path:
    """The folder, absolute, where a package can be written to it: nothing is there, or a package to be replaced.

    Raises UsageError where anything else is there, and for the folder that one works in and those around it.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - "." and ".." have no name to put a folder beside
    here = Path.cwd().resolve()
    if folder.resolve() in (here, *here.parents):
        # Writing renames what is there, and the process would go on in a folder that has gone.
        raise UsageError(
            "the output folder is the working directory or one around it, which is not replaced",
            where=str(folder),
            hint="Choose a folder inside it, such as models/NAME.",
        )
    if not folder.exists() or (folder / MANIFEST_NAME).is_file():
        return folder
    if folder.is_dir() and not any(folder.iterdir()):
        return folder
    raise UsageError(
        "the output folder exists and is no package, so it is not replaced",
        where=str(folder),
        hint="Choose another folder, or remove this one.",
    )


def tune_genai_config(config: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """onnxruntime-genai's genai_config.json without threads, the checkpoint's own tokens, and defaults to sample by.

    Defaults are the checkpoint's generation_config.json; what it leaves open is as transformers has it, greedy.
    """
    tuned = genai_config.with_threads(genai_config.with_context(config, checkpoint.context_tokens), None)
    # Also for what begins a text: the builder writes the BOS of the config class, which the tokenizer may not have.
    stop = checkpoint.stop
    tuned = genai_config.with_tokens(tuned, bos_id=stop.bos_id, eos_ids=stop.eos_ids, pad_id=stop.pad_id)
    return genai_config.with_search(tuned, _search(checkpoint))


def _search(checkpoint: Checkpoint) -> dict[str, Any]:
    stated = {key: value for key, value in asdict(checkpoint.search).items() if value is not None}
    search = {key: stated.get(key, default) for key, default in NEUTRAL_SEARCH.items()}
    # transformers samples only where do_sample is said, and a temperature of 0 is no distribution.
    search["do_sample"] = search["do_sample"] and search["temperature"] != 0
    search["temperature"] = search["temperature"] or 1.0
    length = stated.get("max_length", MAX_LENGTH)
    return search | {"max_length": min(length, checkpoint.context_tokens), "past_present_share_buffer": True}


def tune_tokenizer_config(config: Mapping[str, Any], template: str) -> dict[str, Any]:
    """tokenizer_config.json such that onnxruntime-genai reads it and renders the same prompts as everyone else.

    Of a template here and one in chat_template.jinja, onnxruntime-genai takes the first and transformers the second,
    so this one may say the same in other words (see `plain_jinja`). A tokenizer class that it does not know is replaced
    by the one that means "as tokenizer.json says".
    """
    known = _KNOWN_TOKENIZER.fullmatch(str(config.get("tokenizer_class")))
    tokenizer_class = config["tokenizer_class"] if known else "PreTrainedTokenizerFast"
    return {**config, "tokenizer_class": tokenizer_class, "chat_template": template}


def _bring_model(build: Build, target: Path) -> dict[str, FileDigest]:
    """The model's files, whose digests the build knows: they are not read once more only for that."""
    files = {name: digest for name, digest in build.files.items() if name.startswith("model.onnx")}
    for name, digest in files.items():
        try:
            size_bytes = Path(shutil.copyfile(build.folder / name, target / name)).stat().st_size
        except FileNotFoundError:
            size_bytes = None
        if size_bytes != digest.size_bytes:
            fault = "is gone" if size_bytes is None else f"has {size_bytes} bytes instead of {digest.size_bytes}"
            raise BuilderFailed(f"the build's {name} {fault}", where=str(build.folder), hint=_BUILD_AGAIN)
    return files


def _bring_text(source: Path, target: Path) -> FileDigest:
    """Copies a file of the tokenizer, but for a byte order mark, over which other readers stumble."""
    digest = bring(source, target)
    with target.open("rb") as stream:
        marked = stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    if not marked:
        return digest
    write_file(target, target.read_bytes().removeprefix(codecs.BOM_UTF8))
    return digest_file(target)


def bring_tokenizer(checkpoint: Checkpoint, target: Path, spelling: Spelling) -> dict[str, FileDigest]:
    """The tokenizer's own files, byte by byte but for what the spelling changes; its config is written anew.

    Returns the digests of those that were copied.
    """
    assert checkpoint.chat_template is not None
    files = {
        path.name: _bring_text(path, target / path.name)
        for path in checkpoint.tokenizer.own_files
        if path.name in _COPIED
    }
    config = tokenizer.spelled_out(checkpoint.tokenizer.config, checkpoint.special_tokens)
    if spelling.strip_apart:
        document = tokenizer.without_strip(tokenizer.read_document(target / tokenizer.FILE_NAME, DAMAGED))
        assert document is not None, "the spelling was found by the same rule"
        write_object(target / tokenizer.FILE_NAME, document)
        del files[tokenizer.FILE_NAME]
        config[tokenizer.STRIP_KEY] = True
    write_object(target / tokenizer.CONFIG_NAME, tune_tokenizer_config(config, spelling.template))
    (target / template.FILE_NAME).write_bytes(checkpoint.chat_template.encode())
    generation = dict(checkpoint.generation) or {"eos_token_id": list(checkpoint.stop.eos_ids)}
    write_object(target / "generation_config.json", generation)
    return files


def _digests(folder: Path, names: Iterable[str]) -> dict[str, FileDigest]:
    return {name: digest_file(folder / name) for name in names}


def _describe(checkpoint: Checkpoint, chat_template: str) -> dict[str, Any]:
    """What it was; a folder's name says nothing, the Hub's id and revision do."""
    tool_format = chosen_for(chat_template, tuple(checkpoint.special_tokens.items())).own_format
    hub = {"source": checkpoint.source.partition("@")[0], "revision": checkpoint.revision}
    return {
        **(hub if checkpoint.revision else {}),
        "digest": checkpoint.digest,
        "architecture": checkpoint.architecture,
        "parameters": checkpoint.parameters,
        **_describe_mixture(checkpoint),
        "dtype": checkpoint.dtype,
        **_describe_quantized(checkpoint),
        "licence": checkpoint.licence,
        **({"tool_format": tool_format} if tool_format else {}),
    }


def _describe_mixture(checkpoint: Checkpoint) -> dict[str, Any]:
    """How many of the parameters work on each token, where those are not all."""
    active = describe(checkpoint).get("parameters_active")
    return {} if active is None else {"parameters_active": active}


def _describe_quantized(checkpoint: Checkpoint) -> dict[str, Any]:
    """What was lost before: the form that the weights were brought in."""
    form = checkpoint.quantized
    if form is None:
        return {}
    return {"quantized": {"form": form.form, "bits": form.bits, "group_size": form.group_size}}


def _describe_adapter(checkpoint: Checkpoint) -> dict[str, Any] | None:
    adapter = checkpoint.adapter
    if adapter is None:
        return None
    return {
        "digest": [digest_file(path).sha256 for path in adapter.files][-1],
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targets": list(adapter.targets),
    }
