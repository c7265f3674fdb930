"""The one way settings are declared: frozen, typed, no unknown key."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of every section; two settings are equal when their values are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# Strict numbers: `true` is not 1, and "0.5" is not 0.5.
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Fraction = Annotated[float, Field(strict=True, ge=0, lt=1)]
Rate = Annotated[float, Field(strict=True, gt=0)]
