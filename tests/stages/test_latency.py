import json
from pathlib import Path

import pytest
import torch

from keyslice.config import Backbone, Params, PhantomDataset, Prepare, Train, Variant, Workspace
from keyslice.exams.ingestion import ingest
from keyslice.models import build
from keyslice.stages.latency import measure
from keyslice.stages.prepare import prepare

SPOTS = PhantomDataset(source="phantom", kind="volume", exams=12, classes=("healthy", "lesion"))
PARAMS = Params(
    datasets={"spots": SPOTS},
    variants={"full": Variant(sampler="full"), "uniform": Variant(sampler="uniform", keep=0.5)},
    prepare=Prepare(image_size=16),
    backbone=Backbone(name="test_resnet", weights="none"),
    train=Train(seeds=(0,), threads=1),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Prepared, and trained as far as the clock can tell: the networks are fresh."""
    workspace = Workspace(tmp_path)
    ingest(workspace, "spots", SPOTS)
    prepare(workspace, PARAMS, "spots")
    for variant in PARAMS.variants:
        folder = workspace.models("spots", variant)
        (folder / "seed-0").mkdir(parents=True)
        settings = PARAMS.stage("spots", variant)
        written = settings.model_dump(mode="json") | {"weights": {"source": ""}}
        (folder / "settings.json").write_text(json.dumps(written))
        network = build.fresh(settings, seed=0)
        build.save(network, folder / "seed-0" / "model.safetensors")
    return workspace


def test_times_are_taken_with_the_threads_of_the_settings_and_name_the_model(workspace):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        figures = measure(workspace, PARAMS, "spots", {"full": "abc", "uniform": None})
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert figures["full"]["threads"] == 1
    assert figures["full"]["ms_per_exam_alone"] > 0
    written = {
        variant: json.loads(workspace.timings("spots", variant).read_text()) for variant in figures
    }
    assert written == {
        "full": {"model": "abc", **figures["full"]},
        "uniform": {"model": None, **figures["uniform"]},
    }
