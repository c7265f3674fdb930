"""Settings: params.yaml as frozen, typed dataclasses, checked before any work starts."""

from keyslice.config.datasets import (
    CommonDataset,
    Dataset,
    FolderDataset,
    Limits,
    MedMNISTDataset,
    PhantomDataset,
    Split,
)
from keyslice.config.intensity import Intensity
from keyslice.config.params import SERVICE, Params, StageSettings, Variant, load
from keyslice.config.promote import Promote
from keyslice.config.samplers import SAMPLER_SETTINGS, SamplerSettings
from keyslice.config.sections import (
    Aggregation,
    Backbone,
    Compare,
    Evaluate,
    Model,
    Prepare,
    TestTime,
    Train,
    View,
)
from keyslice.config.service import (
    Notify,
    Occasion,
    Retrain,
    RetrainOfOne,
    Run,
    Schedule,
    Service,
    Versioning,
)
from keyslice.config.workspace import Workspace

__all__ = [
    "SAMPLER_SETTINGS",
    "SERVICE",
    "Aggregation",
    "Backbone",
    "CommonDataset",
    "Compare",
    "Dataset",
    "Evaluate",
    "FolderDataset",
    "Intensity",
    "Limits",
    "MedMNISTDataset",
    "Model",
    "Notify",
    "Occasion",
    "Params",
    "PhantomDataset",
    "Prepare",
    "Promote",
    "Retrain",
    "RetrainOfOne",
    "Run",
    "SamplerSettings",
    "Schedule",
    "Service",
    "Split",
    "StageSettings",
    "TestTime",
    "Train",
    "Variant",
    "Versioning",
    "View",
    "Workspace",
    "load",
]
