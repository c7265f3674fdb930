"""The change plan: what a retrained model must show before it may take the champion's place."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from keyslice.config.base import Positive, Rate, Settings, Share

Margin = Annotated[float, Field(strict=True, gt=0, lt=1)]
Level = Annotated[float, Field(strict=True, gt=0, lt=0.5)]

FEWEST_TAIL_DRAWS = 10
"""A bound that rests on fewer draws than this would move with the seed."""


class Promote(Settings):
    """Approval, and the gate's criteria with their margins.

    The gate records the hash of these settings before training starts; a run whose settings
    changed afterwards cannot pass. Margins are in the units of their metric.
    """

    approval: Literal["required", "automatic"] = "required"
    """`automatic` promotes a model that passed the gate without asking a person."""
    signed: bool = False
    """An approval carries the approver's ssh signature."""
    second_person: bool = False
    """The approver is another than the one who started the run."""

    primary: Literal["auc", "balanced_accuracy"] = "auc"
    """The metric in which the challenger must be shown not to be inferior."""
    margin: Margin = 0.05
    """By less than this it may be worse than the champion, and than the anchor."""
    alpha: Level = 0.05
    """Probability, at most, that of all the models looked at on one test version one passes that is
    worse by the margin; one-sided."""
    looks: Positive = 20
    """Models that may be looked at on one test version; alpha is shared out equally over them."""
    power: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.8
    """Probability that an equally good challenger passes the primary criterion; a lower one is
    warned of."""
    resamples: Positive = 10_000
    seed: Annotated[int, Field(strict=True, ge=0)] = 0

    secondary_margin: Margin = 0.05
    """Of the other metric. These and the following criteria block only a challenger that is
    demonstrably worse by more than the margin."""
    site_margin: Margin = 0.1
    modality_margin: Margin = 0.1
    class_margin: Margin = 0.1
    """Of each class's recall."""
    minimum_cases: Annotated[int, Field(strict=True, ge=2)] = 10
    """Patients of a class in a site or modality, or in all, below which nothing is told of it."""
    calibration_margin: Margin = 0.05
    """By which the expected calibration error may rise."""
    calibration_bins: Positive = 15
    cost_ratio: Rate = 1.5
    """Multiply-accumulates per exam, the challenger's over the champion's, at most."""
    drift_effect: Share | None = 0.474
    """Effect size (of `keyslice drift`) up to which today's test exams may differ from those that
    the challenger was trained on; null sets no limit. By default where Cliff's delta is large."""

    auc_floor: Share | None = 0.6
    """The challenger's AUC on the test exams, at least; null sets no floor."""
    balanced_accuracy_floor: Share | None = None

    @property
    def look_alpha(self) -> float:
        """One-sided level of a single look (Bonferroni): holds however the looks hang together."""
        return self.alpha / self.looks

    @model_validator(mode="after")
    def _enough_draws(self) -> Self:
        least = round(FEWEST_TAIL_DRAWS / self.look_alpha)
        if self.resamples < least:
            raise ValueError(
                f"resamples must be at least {least} ({FEWEST_TAIL_DRAWS} * looks / alpha), "
                f"got {self.resamples}"
            )
        return self
