"""The sections of params.yaml; a dataset may override any key of them.

A variant may override backbone, model and train, and of evaluate the batch size.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from keyslice.config.base import Fraction, Positive, Rate, Settings
from keyslice.config.intensity import Intensity

Seed = Annotated[int, Field(strict=True, ge=0)]


class Prepare(Settings):
    """How an exam becomes a row of frames in the store."""

    image_size: Annotated[int, Field(strict=True, ge=3)] = 28
    """Side of the square that each frame is resized to, pixels; edges are seen from 3 on."""
    max_frames: Positive | None = None
    """Longer exams are thinned evenly to this many frames; null keeps all."""
    intensity: Intensity = Intensity(percentiles=(0.5, 99.5))
    """Which sample values become 0 and 255."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if isinstance(values, dict) and "intensity_percentiles" in values:
            given = values["intensity_percentiles"]
            raise ValueError(
                f"intensity_percentiles has become intensity; write intensity: {{percentiles: "
                f"{given}}}"
            )
        return values


class Backbone(Settings):
    """The per-frame encoder."""

    name: str = "mobilenetv3_small_100"
    """Any timm model name."""
    weights: str = "imagenet"
    """`imagenet` (folder KEYSLICE_WEIGHTS, else timm's hub), `none`, or a safetensors file."""


class Model(Settings):
    """What follows the backbone: temporal attention and a two-layer classifier."""

    attention_width: Positive = 128
    hidden_width: Positive = 128
    dropout: Fraction = 0.2


class Train(Settings):
    """How one variant is fitted, once per seed."""

    start: Literal["scratch", "champion"] = "scratch"
    """`champion`: from the network of the model in use, where it fits; see `keyslice.initial`."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    epochs: Positive = 60
    """At most this many; early stopping usually ends sooner."""
    patience: Positive = 8
    """Epochs without a lower validation loss before training stops."""
    batch_size: Annotated[int, Field(strict=True, ge=2)] = 16
    """Exams per step; BatchNorm needs two."""
    learning_rate: Rate = 1e-4
    sampler_learning_rate: Rate = 1e-4
    """For the samplers' networks; DPS's logits have `logit_rate` times the model's instead."""
    weight_decay: Annotated[float, Field(strict=True, ge=0)] = 0.0
    balance_classes: bool = False
    """Weight the loss by inverse class frequency."""
    device: Literal["cpu", "cuda", "auto"] = "auto"
    threads: Positive = 1
    """CPU threads of a training process; part of the result: 1 and 2 differ in last digits."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"each seed may be named once, got {list(self.seeds)}")
        return self


Aggregation = Literal["mean", "entropy", "learned"]
View = Literal[
    "flip_horizontal",
    "flip_vertical",
    "flip_both",
    "shift_left",
    "shift_right",
    "shift_up",
    "shift_down",
    "shift_up_left",
    "shift_up_right",
    "shift_down_left",
    "shift_down_right",
]
_ALL_OR_FIRST = "all|first [1-9][0-9]*"
Layers = Positive | str | tuple[str, ...]


class StateAttention(Settings):
    """The attention over states, and how it is trained; the network stays as it is."""

    width: Positive = 64
    """Of queries and keys."""
    learning_rate: Rate = 1e-4
    epochs: Positive = 10
    """At most this many; where none lowers the validation loss, the plain mean is kept."""
    patience: Positive = 2
    """Epochs without a lower validation loss before training stops."""


class TestTime(Settings):
    """How often a trained network looks at an exam; see `keyslice.models.test_time`."""

    __test__ = False  # what its name begins with

    budget: Positive = 1
    """States of its subsampling layers that are looked at; 1: the network as it was trained."""
    criterion: Literal["entropy", "learned", "random"] = "entropy"
    """Which states come first: the most certain, those whose maps answer best, or any."""
    aggregation: Aggregation = "mean"
    """What the states' maps come to."""
    layers: Layers = "first 2"
    """Subsampling layers that are searched: those of so many levels nearest the image (first 2), of
    so many of the deepest (3), where there are so many; all; or by name. A run at other phases of a
    deep one begins deep, and costs less."""
    border: Literal["zeros", "kept"] = "kept"
    """What these meet at the border of their maps: what they have met in training, below which the
    map moves, or more zeros, as the method was published."""
    attention: StateAttention = StateAttention()
    """Where criterion or aggregation is learned."""
    views: tuple[View, ...] = ()
    """Looked at besides the frames as they are; each costs as much again. Shifts: one pixel."""
    variants: dict[str, dict[str, Any]] = {}
    """What is otherwise for a variant. Not in its own entry: that it is trained by."""

    @field_validator("layers", mode="before")
    @classmethod
    def _known_form(cls, layers: Any) -> Any:
        """One rule for all of them, not one of each."""
        named = isinstance(layers, list | tuple) and all(isinstance(n, str) for n in layers)
        counted = isinstance(layers, int) and not isinstance(layers, bool) and layers > 0
        in_words = isinstance(layers, str) and re.fullmatch(_ALL_OR_FIRST, layers)
        if in_words or counted or (named and layers):
            return layers
        raise ValueError(
            "give so many levels nearest the image (first 2), so many of the deepest (3), all, "
            "or a list of layers' names"
        )

    @field_validator("views")
    @classmethod
    def _each_once(cls, views: tuple[View, ...]) -> tuple[View, ...]:
        if len(set(views)) != len(views):
            raise ValueError(f"each view may be named once, got {', '.join(views)}")
        return views

    @field_validator("variants")
    @classmethod
    def _not_nested(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if nested := [name for name, own in variants.items() if "variants" in own]:
            raise ValueError(f"{nested[0]}.variants: a variant has no variants of its own")
        return variants

    def values_of(self, variant: str) -> dict[str, Any]:
        """What applies to a variant, not checked yet."""
        common = self.model_dump(exclude={"variants"}, exclude_unset=True)
        own = self.variants.get(variant, {})
        found = common | own
        if isinstance(attention := own.get("attention"), Mapping):
            found["attention"] = common.get("attention", {}) | attention
        return found

    def of(self, variant: str) -> "TestTime":
        """What applies to a variant."""
        return TestTime.model_validate(self.values_of(variant))

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return self.budget > 1 or bool(self.views)

    @property
    def learned(self) -> bool:
        """Whether it needs an attention that was trained."""
        return self.budget > 1 and "learned" in (self.criterion, self.aggregation)

    @property
    def searched(self) -> int | slice | tuple[str, ...] | None:
        """`layers` as `keyslice.models.discarded.Subsampled` takes them."""
        if isinstance(self.layers, str):
            return None if self.layers == "all" else slice(int(self.layers.removeprefix("first ")))
        return self.layers

    @property
    def states(self) -> str:
        """Which states are searched, in words."""
        if isinstance(self.layers, tuple):
            layers = f"the layers {', '.join(self.layers)}"
        elif self.layers == "all":
            layers = "all subsampling layers"
        else:
            which = f"deepest {self.layers}" if isinstance(self.layers, int) else self.layers
            layers = f"the {which} levels of subsampling layers"
        if self.border == "zeros":
            layers += " (zeros at their border)"
        order = {
            "entropy": "the most certain first",
            "learned": "the best by learned attention first",
            "random": "in random order",
        }[self.criterion]
        return f"states of {layers}, {order}"

    @property
    def words(self) -> str:
        """How often, in words."""
        parts = list[str]()
        if self.budget > 1:
            aggregation = {
                "mean": "their mean",
                "entropy": "weighted by certainty",
                "learned": "weighted by learned attention",
            }[self.aggregation]
            parts.append(f"at {self.budget} {self.states}, {aggregation}")
        if self.views:
            views = ", ".join(view.replace("_", " ") for view in self.views)
            parts.append(f"the mean of {len(self.views) + 1} views: as it is, {views}")
        return "; ".join(parts) or "once"


class Evaluate(Settings):
    """How predictions become figures."""

    batch_size: Positive = 32
    """Exams per forward pass."""
    test_time: TestTime = TestTime()
    """How often a network looks at an exam."""
    calibration_bins: Positive = 15
    resamples: Positive = 2000
    """Bootstrap resamples for every interval."""
    confidence: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.95
    seed: Seed = 0


class Compare(Settings):
    """Which variants are held against which, and from which the candidate is chosen."""

    references: tuple[str, ...] = ("full", "uniform")
    """Variants that every other one is compared with in pairs."""
    candidates: tuple[str, ...] | None = None
    """Where the candidate may come from; null: samplers other than full, random, das_paper."""
    contact_sheets: Annotated[int, Field(strict=True, ge=0)] = 3
    """Test exams shown in the report for each variant."""
    within_standard_errors: Annotated[float, Field(strict=True, ge=0)] = 1.0
    """The cheapest candidate this close to the best validation AUC is taken."""


class Ledger(Settings):
    """Where the heads of the ledger go, besides this installation."""

    remote: str | None = None
    """Name of a git remote that heads and run commits are pushed to; null: none. Whoever can alter
    this workspace should not be able to rewrite what that remote has."""
