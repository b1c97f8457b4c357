"""What is known of a checkpoint, as `edgeship inspect --json` says it."""

from __future__ import annotations

from typing import Any

from edgeship.checkpoint import Checkpoint
from edgeship.checkpoint.adapter import Adapter


def inspection(checkpoint: Checkpoint) -> dict[str, Any]:
    """All that is known of a checkpoint, as plain values for JSON."""
    stop, adapter, quantized = checkpoint.stop, checkpoint.adapter, checkpoint.quantized

    def token(number: int | None) -> dict[str, Any] | None:
        return None if number is None else {"id": number, "text": stop.texts.get(number)}

    return {
        "source": checkpoint.source,
        "revision": checkpoint.revision,
        "folder": str(checkpoint.folder),
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "model_type": checkpoint.model_type,
        "parameters": checkpoint.parameters,
        "parameters_estimated": checkpoint.pickle,
        "dtype": checkpoint.dtype,
        "quantization": quantized.form if quantized else None,
        "quantization_bits": quantized.bits if quantized else None,
        "quantization_group_size": quantized.group_size if quantized else None,
        "quantization_read": quantized.packing is not None if quantized else None,
        "weights_bytes": checkpoint.weights_bytes,
        "weight_files": [path.name for path in checkpoint.weight_files],
        "pickle": checkpoint.pickle,
        "layers": checkpoint.layers,
        "hidden_size": checkpoint.hidden_size,
        "kv_heads": checkpoint.kv_heads,
        "head_size": checkpoint.head_size,
        "tied_embeddings": checkpoint.tied_embeddings,
        "vocab_size": checkpoint.vocab_size,
        "context_tokens": checkpoint.context_tokens,
        "chat_template": checkpoint.chat_template is not None,
        "bos": token(stop.bos_id),
        "eos": [token(number) for number in stop.eos_ids],
        "pad": token(stop.pad_id),
        "disagreements": list(stop.disagreements),
        "licence": checkpoint.licence,
        "notes": list(checkpoint.notes),
        "adapter": None if adapter is None else _adapter_inspection(adapter),
    }


def _adapter_inspection(adapter: Adapter) -> dict[str, Any]:
    return {
        "folder": str(adapter.folder),
        "base": adapter.base,
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targets": list(adapter.targets),
        "use_rslora": adapter.use_rslora,
        "use_dora": adapter.use_dora,
    }
