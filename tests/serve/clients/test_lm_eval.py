"""lm-eval against a running server: the figures are those of transformers on the checkpoint itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.serve import create_app
from tests.checkpoints import make_checkpoint
from tests.serve.serving import serving

pytestmark = pytest.mark.slow

DOCUMENTS = [
    {"question": "hello world, how", "choices": [" are you", " is the order", " today? user"], "answer": 0},
    {"question": "system user", "choices": [" wörld 🙂", " assistant", " you"], "answer": 1},
    {"question": "how are you today? order", "choices": [" hello", " world", " are"], "answer": 2},
]
LIKELIHOOD = {
    "task": "choices",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}
ROLLING = {
    "task": "rolling",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "word_perplexity"}],
}
GENERATION = {
    "task": "generation",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["<|im_end|>"], "max_gen_toks": 20},
    "metric_list": [{"metric": "exact_match"}],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("lm-eval") / "tiny")


@pytest.fixture(scope="module")
def url(checkpoint: Path) -> Iterator[str]:
    """Where the checkpoint is served as an FP32 package, by a process of its own."""
    from edgeship import builder as builds
    from edgeship.builder.packaging import write_package
    from edgeship.checkpoint import open_checkpoint
    from edgeship.recipe import Precision, Recipe
    from edgeship.settings import Settings

    home = checkpoint.parent
    settings = Settings(home=home, cache_dir=home / "models", config_file=home / "config.toml")
    opened = open_checkpoint(str(checkpoint))
    package = write_package(builds.build(opened, Recipe(precision=Precision.FP32), settings), opened, home / "served")
    with serving(lambda: create_app(str(package.folder))) as url:
        yield f"{url}/v1/completions"


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One task of each kind, over documents in a file; nothing is fetched."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS), encoding="utf-8")
    files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(path)}}, "test_split": "test"}
    return [task | files for task in (LIKELIHOOD, ROLLING, GENERATION)]


class Direct:
    """The checkpoint in transformers."""

    def __init__(self, checkpoint: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self._model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()

    def likelihood(self, before: str, after: str) -> tuple[float, bool]:
        """How likely one text follows another, in nats, and whether its tokens are the likeliest ones."""
        whole = self._tokenizer.encode(before + after)
        return self._of(whole, len(self._tokenizer.encode(before)))

    def rolling(self, text: str) -> float:
        """How likely a text is after the token that ends others."""
        return self._of([self._tokenizer.eos_token_id, *self._tokenizer.encode(text)], 1)[0]

    def goes_on(self, text: str, most: int) -> str:
        """The likeliest tokens after a text."""
        import torch

        tokens = torch.tensor([self._tokenizer.encode(text)])
        made = self._model.generate(tokens, do_sample=False, max_new_tokens=most)[0, tokens.shape[1] :]
        return str(self._tokenizer.decode(made, skip_special_tokens=True))

    def _of(self, tokens: list[int], first: int) -> tuple[float, bool]:
        import torch

        with torch.no_grad():
            rows = self._model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)[first - 1 : -1]
        wanted = torch.tensor(tokens[first:])
        return float(rows.gather(1, wanted[:, None]).sum()), bool((rows.argmax(-1) == wanted).all())


@pytest.mark.parametrize("how", ["batch_size=4", "num_concurrent=3,tokenized_requests=False"])
def test_the_figures_are_those_of_transformers(url: str, checkpoint: Path, tasks: list[Any], how: str) -> None:
    import lm_eval  # type: ignore[import-untyped]

    found = lm_eval.simple_evaluate(
        model="local-completions",
        model_args=f"model=served,base_url={url},max_length=512,{how}",
        tasks=tasks,
        bootstrap_iters=0,
    )["samples"]
    direct = Direct(checkpoint)
    for document, chosen, rolled, made in zip(DOCUMENTS, *(found[task["task"]] for task in tasks), strict=True):
        question, choices = str(document["question"]), document["choices"]
        assert isinstance(choices, list)
        for choice, [[logprob, is_greedy]] in zip(choices, chosen["resps"], strict=True):
            wanted, greedy = direct.likelihood(question, choice)
            assert float(logprob) == pytest.approx(wanted, abs=1e-3)
            assert str(is_greedy) == str(greedy)
        assert float(rolled["resps"][0][0]) == pytest.approx(direct.rolling(question), abs=1e-3)
        assert made["resps"] == [[direct.goes_on(question, 20)]]
