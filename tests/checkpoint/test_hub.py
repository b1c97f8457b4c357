"""The Hub, played by a server of this machine. Child processes, since the library reads the environment once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.checkpoint.hub import _explain
from edgeship.errors import CheckpointNotFound, DiskShort, HubFailed
from tests import checkpoints
from tests.hub_stand_in import NEW, OLD, Hub, serve

CHILD = """
import json, sys
from edgeship import errors
from edgeship.checkpoint import hub
revision, allow_pickle = json.loads(sys.argv[1])
told = []
try:
    folder, commit = hub.fetch("org/tiny", revision, allow_pickle=allow_pickle, progress=lambda *a: told.append(a))
    print(json.dumps({"folder": str(folder), "commit": commit, "told": told}))
except errors.EdgeshipError as error:
    print(json.dumps(error.to_dict()))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with two commits of one model; the branch is at the new one."""
    commits = {OLD: tmp_path / "old", NEW: tmp_path / "new"}
    for seed, folder in enumerate(commits.values()):
        checkpoints.make_checkpoint(folder, seed=seed)
    (commits[NEW] / "training_args.bin").write_bytes(b"pickle")
    (commits[NEW] / "model.gguf").write_bytes(b"GGUF")
    with serve(Hub(commits=commits, refs={"main": NEW})) as served:
        yield served


def fetch(hub: Hub, revision: str | None = None, *, allow_pickle: bool = False, offline: bool = False) -> Any:
    """What the child's fetch gave: folder, commit and progress, or the error."""
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1" if offline else "0"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([revision, allow_pickle])],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(child.stdout)


@pytest.mark.slow
def test_a_branch_is_resolved_to_its_commit_and_only_what_a_build_needs_is_downloaded(hub: Hub) -> None:
    got = fetch(hub)
    assert got["commit"] == NEW
    names = {path.name for path in Path(got["folder"]).iterdir()}
    assert names == {path.name for path in hub.commits[NEW].iterdir()} - {"training_args.bin", "model.gguf"}
    weights = Path(got["folder"], "model.safetensors").read_bytes()
    assert weights == (hub.commits[NEW] / "model.safetensors").read_bytes()
    assert got["told"][-1] == ["downloading org/tiny", 1.0]
    # No request but the download's own: nothing is reported to anybody.
    assert all(f"/{hub.repo}/" in request for request in hub.requests)


@pytest.mark.slow
def test_a_pinned_revision_is_used(hub: Hub) -> None:
    got = fetch(hub, OLD)
    assert got["commit"] == OLD
    weights = Path(got["folder"], "model.safetensors").read_bytes()
    assert weights == (hub.commits[OLD] / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_offline_uses_what_was_downloaded_and_says_so_where_nothing_was(hub: Hub) -> None:
    nothing = fetch(hub, offline=True)
    assert nothing["code"] == CheckpointNotFound.code
    assert "HF_HUB_OFFLINE" in nothing["what"]
    online = fetch(hub)
    hub.requests.clear()
    assert fetch(hub, offline=True)["folder"] == online["folder"]
    assert hub.requests == []


@pytest.mark.slow
def test_a_cached_snapshot_serves_while_the_hub_is_down(hub: Hub) -> None:
    online = fetch(hub)
    down = Hub(url="http://127.0.0.1:9")
    assert fetch(down)["commit"] == online["commit"]


@pytest.mark.slow
def test_no_such_model_and_no_such_revision(hub: Hub) -> None:
    revision = fetch(hub, "v9")
    assert revision["code"] == CheckpointNotFound.code
    assert "'v9'" in revision["what"]
    hub.repo = "org/other"
    model = fetch(hub)
    assert model["code"] == CheckpointNotFound.code
    assert "org/tiny" in model["what"]


@pytest.mark.slow
def test_a_hub_that_refuses_or_cannot_be_reached(hub: Hub) -> None:
    hub.refuse = (403, "GatedRepo")
    gated = fetch(hub)
    assert gated["code"] == HubFailed.code
    assert "HF_TOKEN" in gated["hint"]
    unreachable = fetch(Hub(url="http://127.0.0.1:9"))
    assert unreachable["code"] == HubFailed.code
    assert "org/tiny" in unreachable["what"]


@pytest.mark.slow
def test_a_truncated_download_leaves_no_weights_and_the_next_one_completes(hub: Hub) -> None:
    hub.truncate = ("model.safetensors",)
    failed = fetch(hub)
    assert failed["code"] == HubFailed.code
    assert fetch(hub, offline=True)["code"] == CheckpointNotFound.code
    hub.truncate = ()
    weights = Path(fetch(hub)["folder"], "model.safetensors").read_bytes()
    assert weights == (hub.commits[NEW] / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_pickles_are_downloaded_only_where_they_are_allowed(hub: Hub) -> None:
    (hub.commits[NEW] / "model.safetensors").rename(hub.commits[NEW] / "pytorch_model.bin")
    refused = fetch(hub)
    assert refused["code"] == "pickle-refused"
    assert "pytorch_model.bin" in refused["what"]
    assert not any("pytorch_model.bin" in request for request in hub.requests)
    allowed = fetch(hub, allow_pickle=True)
    assert (Path(allowed["folder"]) / "pytorch_model.bin").is_file()
    assert not (Path(allowed["folder"]) / "training_args.bin").exists()


def test_a_full_disk_is_told_apart_from_a_network_failure() -> None:
    import errno

    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        full = _explain(OSError(errno.ENOSPC, "No space left on device"), "org/tiny", None, "org/tiny")
        broken = _explain(OSError("connection reset"), "org/tiny", None, "org/tiny")
    assert isinstance(full, DiskShort)
    assert isinstance(broken, HubFailed)
    assert "connection reset" in broken.what
