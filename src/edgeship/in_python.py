"""What the options of the command line are called in Python, for messages that programs get to see."""

from __future__ import annotations

import re

OPTIONS = {
    "--adapter": "adapter=",
    "--allowed-host": "allowed_hosts=",
    "--allow-pickle": "allow_pickle=True of open_checkpoint",
    "--api-key-env": "api_key=",
    "--app": "EDGESHIP_FOUNDRY_APP",
    "--bits": "Recipe(bits=...)",
    "--block-size": "Recipe(block_size=...)",
    "--budget": "Recipe(bits=...), 32 times as much",
    "--builder": "Recipe(builder=...)",
    "--cache-dir": "cache_dir=",
    "--calibrate": "Recipe(calibration=...)",
    "--no-calibrate": "Recipe(calibrate=False)",
    "--chat-template": "chat_template= of open_checkpoint",
    "--context": "Limits(context_tokens=...)",
    "--cors-origin": "cors_origins=",
    "--escalate": "escalate=True",
    "--eval": "eval=",
    "--force": "force=True",
    "--force-resources": "force_resources=True",
    "--foundry-cache-dir": "EDGESHIP_FOUNDRY_CACHE_DIR",
    "--gate": "gate=",
    "--gate-effort": "gate_effort=",
    "--kv-memory": "Limits(kv_bytes=...)",
    "--min-p": "min_p=",
    "--min-pass-rate": "Thresholds(min_pass_rate=...)",
    "--min-top1": "Thresholds(min_top1_agreement=...)",
    "--max-drop": "Thresholds(max_drop=...)",
    "--max-kld": "Thresholds(max_mean_kld_nats=...)",
    "--memory": "EDGESHIP_MEMORY_BYTES",
    "--method": "Recipe(method=...)",
    "--name": "name=",
    "--precision": "a recipe's name",
    "--reference": "reference=",
    "--revision": "revision= of open_checkpoint",
    "--schema": "schema=",
    "--schema-lenient": "schema_lenient=True",
    "--stop": "stop=",
    "--temperature": "temperature=",
    "--threads": "threads=",
    "--undecided": "undecided=",
}
"""How a program says what an option of the command line does: messages name options, and programs raise them too."""
_OPTION = re.compile(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*(?![\w-])")


def notes(text: str) -> list[str]:
    """A line that says what the options which a message names are called in Python; none where it names none."""
    named = dict.fromkeys(_OPTION.findall(text))
    known = [f"{option} is {OPTIONS[option]}" for option in named if option in OPTIONS]
    return [f"  in Python: {', '.join(known)}"] if known else []
