"""generation_config.json: what it says, and what of it changes answers and is not followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeship.checkpoint.dimensions import DAMAGED
from edgeship.package import genai_config
from edgeship.system import json_file
from edgeship.system.fields import Fields, shown

FILE_NAME = "generation_config.json"
_BEAMS = "answers are made one token after another, without beams"
_OTHERWISE = "transformers answers otherwise"
_BIAS = "a request may forbid or favour tokens by logit_bias"
_STOP = "a request may name texts that end the answer, as --stop does"
# Fields of transformers that change answers and that neither a package nor an engine has: what they are where they
# change nothing, and what to know of them where they do.
_NOT_FOLLOWED: dict[str, tuple[object, str]] = {
    "num_beams": (1, _BEAMS),
    "num_beam_groups": (1, _BEAMS),
    "force_words_ids": ([], _BEAMS),
    "constraints": ([], _BEAMS),
    "stop_strings": ([], _STOP),
    "suppress_tokens": ([], _BIAS),
    "begin_suppress_tokens": ([], _BIAS),
    "bad_words_ids": ([], _BIAS),
    "sequence_bias": ([], _BIAS),
    "forced_bos_token_id": (None, _OTHERWISE),
    "forced_eos_token_id": (None, _OTHERWISE),
    "forced_decoder_ids": ([], _OTHERWISE),
    "no_repeat_ngram_size": (0, _OTHERWISE),
    "encoder_no_repeat_ngram_size": (0, _OTHERWISE),
    "encoder_repetition_penalty": (1, _OTHERWISE),
    "min_length": (0, _OTHERWISE),
    "min_new_tokens": (0, _OTHERWISE),
    "exponential_decay_length_penalty": (None, _OTHERWISE),
    "guidance_scale": (1, _OTHERWISE),
    "penalty_alpha": (0, _OTHERWISE),
    "dola_layers": (None, _OTHERWISE),
    "watermarking_config": (None, _OTHERWISE),
}
# The same of fields that change only answers that are sampled.
_NOT_FOLLOWED_IN_SAMPLING: dict[str, tuple[object, str]] = {
    "min_p": (0, "a request may give it, as --min-p does"),
    "top_h": (None, _OTHERWISE),
    "typical_p": (1, _OTHERWISE),
    "epsilon_cutoff": (0, _OTHERWISE),
    "eta_cutoff": (0, _OTHERWISE),
}


def read(places: Sequence[Path]) -> Fields:
    """generation_config.json of the first folder that has one, empty where none has. Raises CheckpointInvalid."""
    files = [path for place in places if (path := place / FILE_NAME).is_file()]
    found = json_file.read_fields(files[0], DAMAGED) if files else json_file.fields_of({}, places[0], DAMAGED)
    genai_config.read_search(found)  # what is wrong is told now, and not after the conversion
    return found


def notes(generation: Fields) -> Iterator[str]:
    """What of it changes answers and is not followed."""
    sampled = _NOT_FOLLOWED_IN_SAMPLING if genai_config.read_search(generation).do_sample else {}
    for name, (neutral, known) in (_NOT_FOLLOWED | sampled).items():
        value = generation.values.get(name)
        if value is not None and value != neutral and value not in ([], {}):
            yield f"{FILE_NAME}: {name} {shown(value)} is not followed: {known}"
