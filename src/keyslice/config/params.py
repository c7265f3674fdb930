"""params.yaml, read and checked as a whole before any work starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from keyslice.config.base import Settings, Share
from keyslice.config.datasets import Dataset, Name
from keyslice.config.promote import Promote
from keyslice.config.samplers import SAMPLER_SETTINGS, SamplerSettings
from keyslice.config.sections import (
    Backbone,
    Compare,
    Evaluate,
    Ledger,
    Model,
    Prepare,
    TestTime,
    Train,
)
from keyslice.config.service import Notify, Retrain, RetrainOfOne, Run, Service, Versioning
from keyslice.errors import UserError, did_you_mean

SECTIONS: dict[str, type[Settings]] = {
    "prepare": Prepare,
    "backbone": Backbone,
    "model": Model,
    "train": Train,
    "evaluate": Evaluate,
    "compare": Compare,
    "promote": Promote,
}
DEMANDED = tuple(name for name in SECTIONS if name != "promote")
"""Sections that dvc.yaml depends on; promoting a model is no stage."""


SERVICE = ("retrain", "versioning", "notify", "service", "run")
"""Sections that no model depends on: when and where retrainings run, and who is told."""


class Variant(Settings):
    """A sampler with its share of frames, its settings, and overrides of the common sections."""

    sampler: str
    keep: Share = 1.0
    """Share of each exam's own frames that are kept: ceil(keep · length)."""
    settings: dict[str, Any] = {}
    """The sampler's own settings; see `keyslice.config.samplers`."""
    backbone: dict[str, Any] = {}
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}
    """`batch_size` alone: all variants are held against each other by the same figures."""

    @field_validator("evaluate")
    @classmethod
    def _same_figures(cls, evaluate: dict[str, Any]) -> dict[str, Any]:
        if other := sorted(set(evaluate) - {"batch_size"}):
            way_out = "set the others for all variants, under `evaluate` or datasets.NAME.evaluate"
            if other == ["test_time"]:
                way_out = "how often one looks goes under evaluate.test_time.variants.NAME"
            got = ", ".join(other)
            raise ValueError(
                f"a variant may override evaluate.batch_size only, got {got}; {way_out}"
            )
        return evaluate

    @model_validator(mode="after")
    def _sampler(self) -> Self:
        if self.sampler not in SAMPLER_SETTINGS:
            hint = did_you_mean(self.sampler, SAMPLER_SETTINGS)
            raise ValueError(f"unknown sampler {self.sampler!r}; {hint}")
        if self.sampler == "full" and self.keep != 1.0:
            raise ValueError(f"the sampler full keeps every frame; leave keep out, got {self.keep}")
        return self

    @property
    def sampler_settings(self) -> SamplerSettings:
        return SAMPLER_SETTINGS[self.sampler].model_validate(self.settings)


class StageSettings(Settings):
    """Everything that applies to one variant on one dataset, overrides resolved."""

    dataset: str
    classes: tuple[str, ...]
    variant: str
    sampler: str
    keep: Share
    sampler_settings: SerializeAsAny[SamplerSettings]
    prepare: Prepare
    backbone: Backbone
    model: Model
    train: Train
    evaluate: Evaluate

    @field_validator("sampler_settings", mode="before")
    @classmethod
    def _of_sampler(cls, value: Any, info: ValidationInfo) -> Any:
        """Read back from JSON, the settings take the type that belongs to the sampler."""
        if isinstance(value, dict):
            return SAMPLER_SETTINGS[info.data["sampler"]].model_validate(value)
        return value


class Params(Settings):
    """The whole of params.yaml."""

    datasets: dict[Name, Dataset] = Field(min_length=1)
    variants: dict[Name, Variant] = Field(min_length=1)
    prepare: Prepare = Prepare()
    backbone: Backbone = Backbone()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    compare: Compare = Compare()
    promote: Promote = Promote()
    ledger: Ledger = Ledger()
    retrain: Retrain = Retrain()
    versioning: Versioning = Versioning()
    notify: Notify = Notify()
    service: Service = Service()
    run: Run = Run()

    @model_validator(mode="after")
    def _overrides(self) -> Self:
        """Every override and every name it refers to holds, for every dataset and variant."""
        for name, variant in self.variants.items():
            known = SAMPLER_SETTINGS[variant.sampler]
            _located(f"variants.{name}.settings", known, variant.settings)
        for dataset in self.retrain.datasets:
            if dataset not in self.datasets:
                hint = did_you_mean(dataset, self.datasets)
                raise ValueError(f"retrain.datasets: unknown dataset {dataset!r}; {hint}")
        for dataset in self.datasets:
            self._compared(dataset)
            self.retrain_settings(dataset)
            self.promote_settings(dataset)
            self._looked(dataset)
            for variant in self.variants:
                self.stage(dataset, variant)
        return self

    def _looked(self, dataset: str) -> None:
        """Raises ValueError: evaluate.test_time.variants names an unknown one, or breaks a rule."""
        test_time = self.section("evaluate", dataset).test_time
        for variant in test_time.variants:
            if variant not in self.variants:
                hint = did_you_mean(variant, self.variants)
                where = "evaluate.test_time.variants"
                raise ValueError(f"{where}: unknown variant {variant!r}; {hint}")
            where = f"evaluate.test_time.variants.{variant}"
            _located(where, TestTime, test_time.values_of(variant))
        every = [test_time, *map(test_time.of, test_time.variants)]
        usual = TestTime()
        searched = ("criterion", "aggregation", "layers", "border", "attention")
        changed = [name for name in searched if getattr(test_time, name) != getattr(usual, name)]
        if changed and all(one.budget == 1 for one in every):
            names = ", ".join(changed)
            raise ValueError(
                f"evaluate.test_time: with a budget of 1 there is nothing for {names} to decide; "
                "set a budget, or leave that out"
            )

    def _compared(self, dataset: str) -> None:
        """Raises ValueError: compare names an unknown variant, or leaves no candidate."""
        compare, own = self.compare_settings(dataset), self.datasets[dataset].compare
        where = {
            key: f"datasets.{dataset}.compare.{key}" if key in own else f"compare.{key}"
            for key in ("references", "candidates")
        }
        for key, place in where.items():
            for name in getattr(compare, key) or ():
                if name not in self.variants:
                    hint = did_you_mean(name, self.variants)
                    raise ValueError(f"{place}: unknown variant {name!r}; {hint}")
        if not self.candidates(dataset):
            raise ValueError(
                f"{where['candidates']}: no variant may become the candidate; by default that is "
                "any whose sampler is not full, random or das_paper; add such a variant, or name "
                "one there"
            )

    def dataset(self, name: str) -> Dataset:
        """Raises UserError: the dataset is not configured."""
        if name not in self.datasets:
            raise UserError(
                f"unknown dataset {name!r}",
                rule="a dataset is named under `datasets` in params.yaml",
                remedy=did_you_mean(name, self.datasets),
            )
        return self.datasets[name]

    def variant(self, name: str) -> Variant:
        """Raises UserError: the variant is not configured."""
        if name not in self.variants:
            raise UserError(
                f"unknown variant {name!r}",
                rule="a variant is named under `variants` in params.yaml",
                remedy=did_you_mean(name, self.variants),
            )
        return self.variants[name]

    def section(self, name: str, dataset: str, variant: str | None = None) -> Any:
        """Section `name` with the dataset's and then the variant's overrides applied."""
        values = getattr(self, name).model_dump()
        holders: list[tuple[str, Settings]] = [(f"datasets.{dataset}", self.dataset(dataset))]
        if variant is not None:
            holders.append((f"variants.{variant}", self.variant(variant)))
        for where, holder in holders:
            override = getattr(holder, name, {})
            values |= override
            _located(f"{where}.{name}", SECTIONS[name], values)
        found = SECTIONS[name].model_validate(values)
        if isinstance(found, Evaluate) and variant is not None:
            return found.model_copy(update={"test_time": found.test_time.of(variant)})
        return found

    def prepare_settings(self, dataset: str) -> Prepare:
        return self.section("prepare", dataset)

    def compare_settings(self, dataset: str) -> Compare:
        return self.section("compare", dataset)

    def promote_settings(self, dataset: str) -> Promote:
        return self.section("promote", dataset)

    def retrain_settings(self, dataset: str) -> RetrainOfOne:
        """Section retrain, with `retrain.datasets.DATASET` applied."""
        common = {name: getattr(self.retrain, name) for name in RetrainOfOne.model_fields}
        values = common | self.retrain.datasets.get(dataset, {})
        _located(f"retrain.datasets.{dataset}", RetrainOfOne, values)
        return RetrainOfOne.model_validate(values)

    def candidates(self, dataset: str) -> tuple[str, ...]:
        """The variants that the candidate may come from; at least one."""
        chosen = self.compare_settings(dataset).candidates
        if chosen is not None:
            return chosen
        passed_over = {"full", "random", "das_paper"}
        return tuple(n for n, v in self.variants.items() if v.sampler not in passed_over)

    def stage(self, dataset: str, variant: str) -> StageSettings:
        """What applies to `variant` on `dataset`."""
        chosen = self.variant(variant)
        return StageSettings(
            dataset=dataset,
            classes=self.dataset(dataset).classes,
            variant=variant,
            sampler=chosen.sampler,
            keep=chosen.keep,
            sampler_settings=chosen.sampler_settings,
            **{
                n: self.section(n, dataset, variant)
                for n in SECTIONS
                if n in StageSettings.model_fields
            },
        )


class _EachKeyOnce(yaml.SafeLoader):
    """YAML's rule, which PyYAML does not keep: of a key's two values the first would be lost."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        found = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in found:
                    place = f"line {key.start_mark.line + 1}"
                    raise yaml.YAMLError(f"the key {key.value!r} is there twice, again in {place}")
                found.add(key.value)
        return node


def load(path: Path) -> Params:
    """Read and check a params.yaml.

    Raises:
        UserError: the file is missing, is no YAML in UTF-8, or breaks a rule; names the key and
            the rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, Loader=_EachKeyOnce)  # noqa: S506 - a safe one
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), remedy="restore it from git") from None
    except UnicodeDecodeError:
        raise UserError("not UTF-8", where=path.name, remedy="save it as UTF-8 text") from None
    except yaml.YAMLError as error:
        raise UserError(f"not YAML ({error})", where=path.name, remedy="mend the syntax") from None
    if not isinstance(values, dict):
        raise UserError("is empty", where=path.name, rule="it must hold datasets and variants")
    for name in DEMANDED:
        if name not in values:
            raise UserError(
                "the section is missing",
                where=f"{path.name}: {name}",
                rule="dvc.yaml depends on every section",
                remedy=f"add `{name}: {{}}` for the defaults",
            )
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise _user_error(error, path.name) from None


class _LocatedError(ValueError):
    """A validation error of nested settings: the key they have, and the keys known below it."""

    def __init__(self, key: str, error: ValidationError, known: list[str]) -> None:
        self.key, self.error, self.known = key, error, known
        super().__init__(f"{key}: {error}")


def _located(key: str, kind: type[Settings], values: dict[str, Any]) -> None:
    """Raises _LocatedError: `values`, found under `key`, are no settings of this kind."""
    try:
        kind.model_validate(values)
    except ValidationError as error:
        below = [str(part) for part in error.errors()[0]["loc"][:-1]]
        raise _LocatedError(key, error, _fields(kind, below)) from None


def _user_error(error: ValidationError, file: str) -> UserError:
    """The first of pydantic's complaints as one line: key, value, rule, way out."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    prefix = ""
    if isinstance(cause, _LocatedError):
        prefix, first = cause.key, cause.error.errors()[0]
    # A tagged union puts its tag (medmnist, folder, phantom) into the path: not a key of the file.
    parts = [str(part) for part in first["loc"]]
    if len(parts) > 2 and parts[0] == "datasets":
        parts = parts[:2] + parts[3:]
    key = ".".join(([prefix] if prefix else []) + parts)
    more = error.error_count() - 1
    also = f"({more} more like this)" if more else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("model_type", "dict_type"):
        message = "give keys with values of their own"
    if first["type"] == "extra_forbidden":
        known = cause.known if isinstance(cause, _LocatedError) else _known_keys(key)
        remedy = did_you_mean(parts[-1], known) if known else "nothing can be set here; drop it"
        return UserError(
            f"unknown key {parts[-1]!r}",
            where=f"{file}: {key}",
            remedy=f"{remedy} {also}",
        )
    if first["type"] == "missing":
        return UserError("is missing", where=f"{file}: {key}", remedy=f"add it {also}".strip())
    value = first.get("input")
    shown = (
        f"{value!r}: " if isinstance(value, str | int | float | bool | list | type(None)) else ""
    )
    return UserError(f"{shown}{message} {also}".strip(), where=f"{file}: {key}" if key else file)


def _known_keys(key: str) -> list[str]:
    """The keys that are allowed where `key` was found."""
    from keyslice.config import datasets

    parts = key.split(".")
    if len(parts) == 1:
        return list(Params.model_fields)
    if parts[0] in SERVICE:
        return _fields(Params, parts[:-1])
    if sections := [place for place, part in enumerate(parts[:-1]) if part in SECTIONS]:
        return _fields(SECTIONS[parts[sections[-1]]], parts[sections[-1] + 1 : -1])
    if parts[-2] == "split":
        return list(datasets.Split.model_fields)
    if parts[0] == "variants":
        return list(Variant.model_fields)
    kinds = (datasets.MedMNISTDataset, datasets.FolderDataset, datasets.PhantomDataset)
    return sorted({k for kind in kinds for k in kind.model_fields})


def _fields(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The fields of what lies at a path below a model; none: no model does."""
    for part in path:
        field = model.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        found = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)
