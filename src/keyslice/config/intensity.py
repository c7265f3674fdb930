"""Which sample values become black and white."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_serializer, model_validator

from keyslice.config.base import Rate, Settings
from keyslice.errors import did_you_mean

Percentile = Annotated[float, Field(strict=True, ge=0, le=100)]
Sample = Annotated[float, Field(strict=True)]

WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "soft_tissue": (50, 400),
    "liver": (30, 150),
    "brain": (40, 80),
    "bone": (400, 1800),
}
"""Usual windows of CT: centre and width, Hounsfield units (Radiopaedia, "Windowing (CT)")."""
WAYS = ("percentiles", "window", "range")


class Intensity(Settings):
    """How the samples of an exam become 8 bits: linearly between two values, cut off beyond them.

    One of `percentiles`, `window` and `range`. 8-bit exams stay as they are under percentiles; a
    window or range is in units that they seldom have, so `eight_bit` must then say which is meant.
    """

    percentiles: tuple[Percentile, Percentile] | None = None
    """Of the exam's own samples, over all frames."""
    window: tuple[Sample, Rate] | None = None
    """Centre and width, Hounsfield units, or a name of `WINDOWS`; the numbers are recorded."""
    range: tuple[Sample, Sample] | None = None
    """Sample values, in the units of the exam."""
    eight_bit: Literal["keep", "map"] | None = None
    """`keep` leaves 8-bit exams as they are, `map` treats them as any other."""

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = (*WAYS, "eight_bit")
        if unknown := [key for key in values if key not in known]:
            raise ValueError(f"unknown key {unknown[0]!r}; {did_you_mean(str(unknown[0]), known)}")
        given = [way for way in WAYS if values.get(way) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of {', '.join(WAYS)} is given, got {', '.join(given) or 'none'}"
            )
        return values

    @field_validator("window", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in WINDOWS:
            raise ValueError(f"no window has this name; {did_you_mean(value, WINDOWS)}")
        return WINDOWS[value]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, pair in (("percentile", self.percentiles), ("value", self.range)):
            if pair is not None and pair[0] >= pair[1]:
                raise ValueError(
                    f"the lower {name} must be below the upper one, got {pair[0]}, {pair[1]}"
                )
        return self

    @model_serializer
    def _as_given(self) -> dict[str, Any]:
        """What is not set is left out, so that an override takes the place of the whole."""
        return {name: value for name, value in self if value is not None}

    @property
    def kind(self) -> str:
        """Which of the three it is."""
        return next(way for way in WAYS if getattr(self, way) is not None)
