"""What to ask of onnxruntime-genai's builder for a recipe, around the combinations in which version 0.18 fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeship.errors import PrecisionUnsupported
from edgeship.recipe import BLOCK_SIZES, Precision, Recipe

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint


def builder_options(checkpoint: Checkpoint, recipe: Recipe) -> list[str]:
    """The builder's `--extra_options`, each "name=value".

    prune_lm_head computes logits for the last prompt position only; hf_token and hf_remote keep the builder from the
    Hub's account and from code in the checkpoint.
    """
    options = {"hf_token": "false", "hf_remote": "false", "prune_lm_head": "true"}
    if recipe.precision.quantized:
        options |= {
            "block_size": str(recipe.block_size),
            "is_symmetric": str(recipe.symmetric).lower(),
            "accuracy_level": str(recipe.accuracy_level),
            "algo_config": _algorithm(checkpoint, recipe),
        }
        if checkpoint.tied_embeddings and recipe.precision is Precision.INT4:
            options["shared_embeddings"] = str(shares_embedding(checkpoint, recipe)).lower()
    return [f"{name}={value}" for name, value in options.items()]


def _algorithm(checkpoint: Checkpoint, recipe: Recipe) -> str:
    """ "default" and "rtn" both round to nearest; only the second can share an asymmetric matrix with the embedding."""
    if recipe.method == "k_quant":
        return "k_quant"
    asymmetric_shared = not recipe.symmetric and shares_embedding(checkpoint, recipe)
    return "rtn" if asymmetric_shared else "default"


def shares_embedding(checkpoint: Checkpoint, recipe: Recipe) -> bool:
    """Whether one quantized matrix serves as embedding and output layer; otherwise the embedding stays FP32.

    INT8 never can. INT4 with zero points only where `odd_width` finds nothing; "default" with zero points would make a
    model that ONNX Runtime cannot open.
    """
    if not checkpoint.tied_embeddings or recipe.precision is not Precision.INT4:
        return False
    return not has_zero_points(recipe) or odd_width(checkpoint, recipe.block_size) is None


def has_zero_points(recipe: Recipe) -> bool:
    """Whether each block has a zero point beside its scale; k_quant always makes one."""
    return recipe.precision.quantized and (not recipe.symmetric or recipe.method == "k_quant")


def odd_width(checkpoint: Checkpoint, block_size: int) -> str | None:
    """The name of a matrix whose rows make an odd number of blocks, or None.

    Two 4-bit zero points share a byte, and "rtn" and "k_quant" cannot fill half of one.
    """
    for name, tensor in checkpoint.tensors.items():
        if len(tensor.shape) == 2 and -(-tensor.shape[1] // block_size) % 2:
            return name
    return None


def check_blocks(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Raises PrecisionUnsupported for k_quant in INT4 with blocks that do not pair up, and names sizes that do."""
    if recipe.precision is not Precision.INT4 or recipe.method != "k_quant":
        return
    name = odd_width(checkpoint, recipe.block_size)
    if name is None:
        return
    possible = [str(size) for size in BLOCK_SIZES if odd_width(checkpoint, size) is None]
    advice = f"Use a block size of {' or '.join(possible)}, or" if possible else "Use"
    raise PrecisionUnsupported(
        f"INT4 with k_quant and blocks of {recipe.block_size} cannot be built: "
        f"{name} has rows of {checkpoint.tensors[name].shape[1]}, which make an odd number of blocks",
        where=str(checkpoint.folder),
        hint=f'{advice} the method "rtn".',
    )
