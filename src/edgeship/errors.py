"""Every error a user can meet: what happened, where, what to try.

A class stands for a kind of failure. Its `code` is stable and documented in docs/errors.md, its `exit_code` is what
the command line returns and its `http_status` what a server answers. Adapters raise these `from` the foreign error.
"""

from __future__ import annotations

from typing import ClassVar

from edgeship import in_python

_MOST_CHARACTERS = 2000


class EdgeshipError(Exception):
    """A fault in Edgeship itself; failures that can be explained have classes of their own."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 3
    http_status: ClassVar[int] = 500

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = _told(what)
        self.where = where
        self.hint = hint and _told(hint)
        super().__init__(self.what)

    def __str__(self) -> str:
        return "\n".join(
            (in_words(self.what, self.where, self.hint), *in_python.notes(f"{self.what} {self.hint or ''}"))
        )

    def to_dict(self) -> dict[str, str | int | None]:
        """The error as `--json` prints it."""
        return {
            "code": self.code,
            "exit_code": self.exit_code,
            "what": self.what,
            "where": self.where,
            "hint": self.hint,
        }


def in_words(what: str, where: str | None, hint: str | None) -> str:
    """What happened, where, and what to try, each on a line of its own."""
    lines = (what, where and f"  where: {where}", hint and f"  try:   {hint}")
    return "\n".join(line for line in lines if line)


def came_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether a `kind` is among the causes of `error`."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def _told(text: str) -> str:
    """A message, which may quote what strangers wrote: nothing that a terminal obeys, and not endless."""
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[: _MOST_CHARACTERS // 2]} ... {text[-_MOST_CHARACTERS // 2 :]}"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


# --- 1: the release gate says no ------------------------------------------------------------------------------------


class GateFailed(EdgeshipError):
    """A package that the release gate found unfit, which is installed by force alone."""

    code, exit_code = "gate-failed", 1


# --- 2: the request is wrong ----------------------------------------------------------------------------------------


class UsageError(EdgeshipError):
    """The command, a name or an option is wrong.

    param: the field of a request, or the setting, that is to blame, where it is one.
    """

    code, exit_code, http_status = "usage", 2, 400

    def __init__(
        self, what: str, *, where: str | None = None, hint: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.param = param


class NameInvalid(UsageError):
    """A package name or version that could not be a folder name everywhere."""

    code = "name-invalid"


class RecipeInvalid(UsageError):
    """A recipe or workflow file that cannot be honoured as written."""

    code = "recipe-invalid"


class PrecisionUnsupported(UsageError):
    """A precision that the execution provider or the builder lacks."""

    code = "precision-unsupported"


class CheckpointInvalid(UsageError):
    """A folder that is no checkpoint, or one whose parts contradict each other."""

    code = "checkpoint-invalid"


class PickleRefused(UsageError):
    """Weights only in pickle files, which run code when read."""

    code = "pickle-refused"


class PackageRefused(UsageError):
    """A package that would load code or reach files outside of it when it is run."""

    code = "package-refused"


class TemplateMissing(UsageError):
    """A tokenizer without a chat template."""

    code = "template-missing"


class TemplateInvalid(UsageError):
    """A chat template that does not render."""

    code = "template-invalid"


class AdapterInvalid(UsageError):
    """A LoRA adapter that is damaged or of another base."""

    code = "adapter-invalid"


class ArchitectureUnknown(UsageError):
    """An architecture that no builder here knows."""

    code = "architecture-unknown"


class EvalInvalid(UsageError):
    """An evaluation file with a line that cannot be used."""

    code = "eval-invalid"


class DocumentInvalid(UsageError):
    """A file that holds no measurement, or one that this version cannot read."""

    code = "document-invalid"


class CalibrationInvalid(UsageError):
    """A file of calibration texts that cannot be used."""

    code = "calibration-invalid"


class GateInvalid(UsageError):
    """A gate file with an unknown bound, a value that a bound cannot have, or a changed bound without a reason."""

    code = "gate-invalid"


class PromptsInvalid(UsageError):
    """A file of prompts to measure with that has a line that cannot be used."""

    code = "prompts-invalid"


class TextsInvalid(UsageError):
    """A file of texts that fidelity cannot be measured over."""

    code = "texts-invalid"


class PromptInvalid(UsageError):
    """A prompt or sampling setting that the model cannot take."""

    code = "prompt-invalid"


class ContextFull(PromptInvalid):
    """A prompt that is longer than the model's context."""

    code = "context-full"


class ConstraintInvalid(UsageError):
    """A JSON schema, regular expression or grammar that answers cannot be held to."""

    code = "constraint-invalid"


class NotSupported(UsageError):
    """A request for something that this engine cannot do, and would do without a word otherwise."""

    code = "not-supported"


class FormatUnknown(NotSupported):
    """A package of a format that a later version writes."""

    code = "format-unknown"


class RequestInvalid(UsageError):
    """A request to the server with a field that is wrong, or that it does not support."""

    code = "request-invalid"


class MethodWrong(UsageError):
    """A path of the server that is asked by a method which it does not take."""

    code, http_status = "method-wrong", 405


class KeyRefused(UsageError):
    """A request to the server without an API key, or with one that it does not know."""

    code, http_status = "key-refused", 401


class OriginRefused(UsageError):
    """A request by a host name that the server does not go by, or from a web page that it does not serve."""

    code, http_status = "origin-refused", 403


class BodyInvalid(UsageError):
    """A request whose body is no JSON, or JSON that two readers would read in different ways."""

    code = "body-invalid"


class HttpInvalid(UsageError):
    """What a client sent to the server is no HTTP request."""

    code = "http-invalid"


class HeadTooLarge(UsageError):
    """A request whose headers are longer than the server reads."""

    code, http_status = "head-too-large", 431


class BodyTooLarge(UsageError):
    """A request whose body is longer than the server reads."""

    code, http_status = "body-too-large", 413


class BodyTooSlow(UsageError):
    """A request whose body did not come in time."""

    code, http_status = "body-too-slow", 408


# --- 4: not there ---------------------------------------------------------------------------------------------------


class NotFound(EdgeshipError):
    """Something that was named does not exist."""

    code, exit_code, http_status = "not-found", 4, 404


class CheckpointNotFound(NotFound):
    """No such folder, and no such model on the Hub."""

    code = "checkpoint-not-found"


class PackageNotFound(NotFound):
    """No such package in the cache."""

    code = "package-not-found"


class ModelUnknown(NotFound):
    """No model that is served has such a name."""

    code = "model-unknown"


class EvidenceUnknown(NotFound):
    """No request of that id is known, or none that can be asked again by itself."""

    code = "evidence-unknown"


class RegistrationNotFound(NotFound):
    """No such model in Foundry Local's local catalog."""

    code = "registration-not-found"


# --- 5: a tool failed -----------------------------------------------------------------------------------------------


class ToolFailed(EdgeshipError):
    """A tool that we drive failed, or claimed success and left nothing."""

    code, exit_code, http_status = "tool-failed", 5, 502


class BuilderFailed(ToolFailed):
    """A builder ended without a usable model."""

    code = "builder-failed"


class EngineFailed(ToolFailed):
    """An engine could not load or run a package."""

    code = "engine-failed"


class FoundryFailed(EngineFailed):
    """Foundry Local could not be opened, or refused or failed at what it was asked for."""

    code = "foundry-failed"


class RemoteFailed(EngineFailed):
    """A server could not be reached, or failed, or speaks another language than OpenAI's."""

    code = "remote-failed"


class AnswerInvalid(ToolFailed):
    """An answer that was to fit a schema and does not.

    answer: the whole of it.
    """

    code = "answer-invalid"

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None, answer: object = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.answer = answer


class NotBatchable(EngineFailed):
    """A package whose graph the batched engine cannot run; onnxruntime-genai can."""

    code = "not-batchable"


class DependencyMissing(ToolFailed):
    """A Python package that this step needs is not installed, or is of a version that does not work here."""

    code = "dependency-missing"


class HubFailed(ToolFailed):
    """The model hub could not be reached or refused."""

    code = "hub-failed"


# --- 6: integrity ---------------------------------------------------------------------------------------------------


class IntegrityError(EdgeshipError):
    """Bytes are not what they should be."""

    code, exit_code, http_status = "integrity", 6, 500


class WeightsDamaged(IntegrityError):
    """A weight file is missing, truncated or altered."""

    code = "weights-damaged"


class PackageDamaged(IntegrityError):
    """A package's files differ from its manifest."""

    code = "package-damaged"


class TemplateMismatch(IntegrityError):
    """Two renderings of one conversation give different token ids."""

    code = "template-mismatch"


# --- 7: resources ---------------------------------------------------------------------------------------------------


class ResourceError(EdgeshipError):
    """This machine does not have what the work needs."""

    code, exit_code, http_status = "resources", 7, 503


class MemoryShort(ResourceError):
    """Too little memory."""

    code = "memory-short"


LESS_MEMORY = "Close other programs, or take a machine with more memory: `edgeship inspect` predicts the need."


class DiskShort(ResourceError):
    """Too little disk."""

    code = "disk-short"


class NotWritable(ResourceError):
    """A folder that must be written to cannot be."""

    code = "not-writable"


class CacheBusy(ResourceError):
    """Another process holds the lock for longer than we wait."""

    code = "cache-busy"


class EngineBusy(ResourceError):
    """As many requests wait as the engine lets wait."""

    code, http_status = "engine-busy", 429


class RateLimited(ResourceError):
    """An API key by which as much is asked as it allows.

    retry_after_s: when it allows more.
    """

    code, http_status = "rate-limited", 429

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(what, where=where, hint=hint)
        self.retry_after_s = retry_after_s


class AddressUnusable(ResourceError):
    """An address that cannot be listened on: another program has it, or this machine does not."""

    code = "address-unusable"


class ServerEnding(ResourceError):
    """A server that is being stopped takes no more requests, and ends those that take too long."""

    code = "server-ending"


# --- 8: an answer is incomplete -------------------------------------------------------------------------------------


class AnswerCut(EdgeshipError):
    """An answer that was held to a schema, a regular expression, a grammar or calls, and was cut before its end."""

    # A server has answered: it says so by its finish_reason.
    code, exit_code, http_status = "answer-cut", 8, 200


class DeadlinePassed(EdgeshipError):
    """An answer that was not complete within the time that it was given."""

    code, exit_code, http_status = "deadline-passed", 8, 504


def all_errors() -> list[type[EdgeshipError]]:
    """Every error class, the general ones before the special ones; docs/errors.md is made from it."""
    found: list[type[EdgeshipError]] = [EdgeshipError]
    for error in found:
        found.extend(error.__subclasses__())
    return found
