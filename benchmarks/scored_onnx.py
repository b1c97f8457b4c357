"""An onnxruntime-genai folder, of ours or of its own builder, made to tell all the logits that are scored at once.

Such graphs compute logits for a text's last token only, by one node that takes it out. In a copy of the graph that node
takes out all scored positions; every other node and every weight is the package's own. Token by token would be sixty
times slower.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from reference_logits import SCORED, Floats, Tokens

from edgeship.system.storage import scratch_folder

THREADS = 2
_OF_TOKENS = ("input_ids", "attention_mask")


@contextmanager
def opened(folder: Path, scratch: Path, accuracy_level: int | None = None) -> Iterator[Scored]:
    """The folder's model. accuracy_level: of every multiplication, instead of the package's own; 4 is int8, 1 float32.

    scratch: a folder on the same disk; what is written into it is removed.
    """
    with scratch_folder(scratch) as copy:
        _write_scored(folder, copy, accuracy_level)
        yield Scored(copy)


class Scored:
    """A model that tells the logits of a window's scored positions."""

    def __init__(self, folder: Path) -> None:
        onnxruntime: Any = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # nor slow down who else works here
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        # What layers keep of tokens before: keys and values of none, and states as they begin.
        self._past = {
            past.name: np.zeros([1, *(size if isinstance(size, int) else 0 for size in past.shape[1:])], np.float32)
            for past in self._session.get_inputs()
            if past.name not in _OF_TOKENS
        }

    def logits(self, window: Tokens) -> Floats:
        """Of one window of token ids: float32 [scored positions, vocabulary]."""
        ids = window[None].astype(np.int64)
        feeds = dict(zip(_OF_TOKENS, (ids, np.ones_like(ids)), strict=True)) | self._past
        [found] = self._session.run(["logits"], feeds)
        rows = found[0] if found.shape[1] == len(SCORED) else found[0, SCORED.start : SCORED.stop]
        return np.asarray(rows, np.float32)


def weight_bytes(folder: Path) -> int:
    """Bytes of what stands for the checkpoint's weights: all initializers but the tables of rotary angles.

    What two initializers share in the data file, as tied embeddings may, counts once.
    """
    ir: Any = importlib.import_module("onnx_ir")
    found: dict[Any, int] = {}
    for value in ir.load(folder / "model.onnx").graph.initializers.values():
        if "_cache" not in value.name:
            tensor = value.const_value
            place = tensor.offset if isinstance(tensor, ir.ExternalTensor) else value.name
            found[place] = int(tensor.nbytes)
    return sum(found.values())


def _write_scored(folder: Path, copy: Path, accuracy_level: int | None) -> None:
    ir: Any = importlib.import_module("onnx_ir")
    model = ir.load(folder / "model.onnx")
    last = [node for node in model.graph if _takes_last(node)]
    if last:
        positions = ir.tensor(np.arange(SCORED.start, SCORED.stop), name="scored_positions")
        index = ir.Value(name=positions.name, shape=positions.shape, type=ir.TensorType(positions.dtype))
        index.const_value = positions
        model.graph.register_initializer(index)
    for node in last:
        node.replace_input_with(1, index)
        for reader in list(node.outputs[0].consumers()):
            if reader.op_type == "Unsqueeze":  # it gives the one position its axis, which several have already
                ir.convenience.replace_all_uses_with(reader.outputs[0], node.outputs[0])
    for node in model.graph:
        node.attributes.pop("sliding_window_cache", None)  # a buffer that only onnxruntime-genai brings
        if accuracy_level is not None and node.op_type == "MatMulNBits":
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", accuracy_level)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():  # it said which position is the last
            del model.graph.initializers[name]
    for value in (value for node in model.graph for value in node.outputs):
        value.shape = None  # what was inferred for one position
    data = folder / "model.onnx.data"
    try:
        os.link(data, copy / data.name)
    except OSError:
        shutil.copy2(data, copy)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value.base_dir = str(copy)
    ir.save(model, copy / "model.onnx")


def _takes_last(node: Any) -> bool:
    """Whether it takes the last of all positions out of [batch, position, width]."""
    if node.op_type != "Gather" or "axis" not in node.attributes or node.attributes["axis"].as_int() != 1:
        return False
    index = importlib.import_module("onnx_ir").convenience.get_const_tensor(node.inputs[1])
    return index is not None and index.size == 1 and int(index.numpy().ravel()[0]) == -1
