"""A dataset is one classification task: a source, fixed classes, its own overrides."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from keyslice.config.base import Positive, Settings, Share

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Split(Settings):
    """Shares of the patients; assigned once, at a patient's first ingestion."""

    train: Share = 0.7
    validation: Share = 0.15
    test: Share = 0.15

    @model_validator(mode="after")
    def _sum(self) -> Self:
        shares = (self.train, self.validation, self.test)
        if abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the three shares must add up to 1, got {shares}")
        return self


class CommonDataset(Settings):
    """What every kind of dataset has."""

    classes: tuple[str, ...] = Field(min_length=2)
    """Label names, in the order of the model's outputs; of two, the second is the positive."""
    intended_use: Annotated[str, Field(max_length=2000)] = ""
    """Whom and what the models are for, in words; each version of them carries it."""
    rare_classes: Literal["refuse", "leave_out"] = "refuse"
    """What to do with a class of fewer than 3 patients, which cannot be in all three splits."""
    split: Split = Split()
    prepare: dict[str, Any] = {}
    backbone: dict[str, Any] = {}
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}
    compare: dict[str, Any] = {}
    promote: dict[str, Any] = {}

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name and name == name.strip() for name in classes):
            raise ValueError("a class has a name, without spaces around it")
        if len(set(classes)) != len(classes):
            raise ValueError(f"each class may be named once, got {list(classes)}")
        return classes


class MedMNISTDataset(CommonDataset):
    """A 3D set of MedMNIST, with its official splits; it carries no patient ids."""

    source: Literal["medmnist"]
    flag: Literal[
        "organmnist3d",
        "nodulemnist3d",
        "adrenalmnist3d",
        "fracturemnist3d",
        "vesselmnist3d",
        "synapsemnist3d",
    ]
    size: Literal[28, 64] = 28


class Limits(Settings):
    """What one exam may have at most; more is refused before it is decoded."""

    frames: Positive = 20_000
    pixels: Positive = 2**26
    """Of one frame: 8192 by 8192."""
    memory: Positive = 4 * 2**30
    """Bytes, of all frames, decoded; and of a file in an archive."""
    members: Positive = 100_000
    """Files in an archive."""
    seconds: Positive = 600
    """To read it."""


class FolderDataset(CommonDataset):
    """Exam files and a table of labels."""

    source: Literal["folder"]
    path: str | None = None
    """The folder, absolute, from ~ or relative to the workspace; default data/inbox/<dataset>."""
    labels: str = "labels.csv"
    """The table, relative to the folder; columns file, patient_id, label (and optional ones)."""
    label_column: str = "label"
    issuer: str = ""
    """Who gave out the patient ids; the same id of two issuers is two patients."""
    identifiers: Literal["secret", "public"] = "secret"
    """`public` takes the published key for pseudonyms: for data whose patient ids are public."""
    slice_axis: Literal["auto", 0, 1, 2] = "auto"
    """Axis of the RAS+ image that slices are taken along: 0 sagittal, 1 coronal, 2 axial;
    auto: the one of coarsest spacing, else the last."""
    burned_in: Literal["flag", "quarantine"] = "flag"
    """What becomes of DICOM files that do not say that no text is burned into their pixels."""
    dates: Literal["year", "shifted", "full"] = "year"
    """What is kept of dates of acquisition; `shifted` moves all of a patient's by the same number
    of days, up to half a year either way, which only the key tells."""
    settle: Annotated[float, Field(ge=0)] = 2.0
    """Seconds for which a file must have stayed as it is; a younger one may still be arriving."""
    limits: Limits = Limits()


class PhantomDataset(CommonDataset):
    """Synthetic exams whose informative slices are known; written into the inbox as real files."""

    source: Literal["phantom"]
    kind: Literal["volume", "video"]
    exams: Positive = 200
    patients: Positive | None = None
    """Default: one patient for every two exams, however many exams there are."""
    seed: Annotated[int, Field(strict=True, ge=0)] = 0


Dataset = Annotated[MedMNISTDataset | FolderDataset | PhantomDataset, Field(discriminator="source")]
