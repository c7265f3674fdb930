"""`keyslice show`: a picture of one exam, with the slices that a model looked at marked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from keyslice import files
from keyslice.config import Params, Prepare, Workspace
from keyslice.console.output import err, out, print_json, say
from keyslice.console.prediction import ranges
from keyslice.errors import UserError
from keyslice.evaluation import exam_sheet
from keyslice.evaluation.exam_sheet import Sheet, Verdict
from keyslice.exams import known
from keyslice.exams.exam import Exam, exam_id, from_other_end
from keyslice.exams.known import Known
from keyslice.exams.opening import open_exam
from keyslice.exams.source import Reading, UnreadableError, printable
from keyslice.prepared import Scaling, eight_bit, scaling_of
from keyslice.registry.models import download, in_use, models
from keyslice.registry.package import DESCRIPTION

if TYPE_CHECKING:
    from keyslice.models.predictor import Predictor  # imports torch

DEFAULT_COLOUR = "#56b4e9"
"""Of a model whose variant is in the settings no more."""


@dataclass(frozen=True)
class Used:
    """A loaded model, what it is registered as, and how it has files read."""

    name: str
    version: str
    predictor: "Predictor"
    reading: Reading


def run(
    workspace: Workspace,
    params: Params,
    exam: str,
    *,
    name: str | None,
    version: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the contact sheet of `exam`: a path, or the beginning of an ingested exam's id.

    Raises:
        UserError: there is no such exam or model, or the picture would replace a file.
    """
    path = Path(exam)
    one = None if path.exists() else _ingested(workspace, params, exam, name)
    # Not named as a source is: that may be a person's name.
    target = output or (Path(f"{one.row['exam_id']}.png") if one else None)
    if target:  # before the work
        _check_target(target, path, force)
    used = _model(workspace, one, name, version)
    opened = known.load(workspace, one) if one else _opened(path, used)
    if not target:
        target = Path(f"{exam_id(opened.frames)}.png")
        _check_target(target, path, force)
    if used is not None:
        prepare = used.predictor.settings.prepare
    else:
        prepare = params.prepare_settings(one.dataset) if one else params.prepare
    sheet, told = _sheet(opened, one, used, params, prepare)
    with files.beside(target) as part:
        exam_sheet.draw(sheet).save(part, format="PNG", optimize=True)
    if as_json:
        print_json({"output": printable(str(target))} | told)
        return
    if sheet.verdict is None:
        of = f" of {one.dataset}" if one else ""
        say(err, Text(f"no model{of} is registered yet: nothing is marked"))
    say(out, Text(f"wrote {printable(str(target))}: {_words(sheet)}"))


def _ingested(workspace: Workspace, params: Params, exam: str, name: str | None) -> Known:
    if known.is_id(exam.lower()):
        # An exam may be in several datasets: that of the model is meant.
        datasets = sorted(params.datasets, key=lambda dataset: dataset != name)
        return known.find(workspace, datasets, exam.lower())
    raise UserError(
        "no such exam",
        where=printable(exam),
        rule=f"EXAM is an ingested exam's id, {known.FEWEST_DIGITS} or more of its first digits, "
        "or the path of what ingest reads",
        remedy="mend it; ids are the names of the files in data/exams/DATASET",
    )


def _check_target(target: Path, source: Path, force: bool) -> None:
    """Raises UserError: the picture would replace something, or would be no PNG."""
    if target.suffix.lower() != ".png":
        raise UserError(
            "is no name of a PNG", where=printable(str(target)), remedy="let it end in .png"
        )
    never = target.is_dir() or target.resolve() == source.resolve()
    if never or (target.exists() and not force):
        raise UserError(
            "is there already",
            where=printable(str(target)),
            rule="nothing is replaced unasked",
            remedy="name another --output" + ("" if never else ", or add --force"),
        )


def _model(
    workspace: Workspace, one: Known | None, name: str | None, version: str | None
) -> Used | None:
    """The model named; else that of the exam's dataset, or of a file the only one there is."""
    if name is None:
        names = sorted({model.name for model in models(workspace)})
        if one is not None:
            names = [one.dataset] if one.dataset in names else []
        if len(names) > 1:
            raise UserError(
                f"several models are registered: {', '.join(names)}",
                rule="the slices of one are marked",
                remedy=f"name it, as in --model {names[0]}",
            )
        if not names:
            return None
        name = names[0]
    with err.status("loading the model"):
        version = version or in_use(workspace, name)
        package = download(workspace, name, version)
        from keyslice.models.predictor import Predictor  # torch and timm: seconds

        about = json.loads((package / DESCRIPTION).read_text(encoding="utf-8"))
        return Used(
            name, version, Predictor.load(package), Reading(about.get("slice_axis", "auto"))
        )


def _opened(path: Path, used: Used | None) -> Exam:
    try:
        return open_exam(path, used.reading if used else Reading())
    except UnreadableError as error:
        raise UserError(
            str(error), where=printable(str(path)), remedy="give a path that holds one whole exam"
        ) from None


def _sheet(
    exam: Exam, one: Known | None, used: Used | None, params: Params, prepare: Prepare
) -> tuple[Sheet, dict[str, Any]]:
    """What is on the picture, as a sheet and as JSON; frames are in the order of the file."""
    count = len(exam.frames)
    scaling = scaling_of(exam.frames, prepare.intensity)
    verdict = _verdict(exam, used, params) if used else None
    informative = (one.row["informative"] if one else None) or []
    if exam.reversed:
        informative = from_other_end(informative, count)
    numbers = exam_sheet.shown(count, verdict.kept if verdict else ())
    stored = count - 1 - numbers if exam.reversed else numbers
    _, height, width = exam.frames.shape[:3]
    _, rows, columns = exam.spacing or (1.0, 1.0, 1.0)
    name = one.row["exam_id"] if one else exam_id(exam.frames)
    sheet = Sheet(
        title=name,
        facts=_facts(exam, one, prepare, scaling),
        frames=eight_bit(exam.frames[stored], scaling),
        numbers=numbers.tolist(),
        count=count,
        aspect=(width * columns) / (height * rows),
        informative=frozenset(informative),
        label=one.row["label"] if one else "",
        verdict=verdict,
    )
    told = {
        "exam": name,
        **{key: one.row[key] if one else None for key in ("label", "split")},
        "dataset": one.dataset if one else None,
        "shape": list(exam.frames.shape),
        "dtype": exam.frames.dtype.name,
        "plane": exam.plane,
        "spacing_mm": exam.spacing,
        "frame_time_ms": exam.frame_time,
        "black": scaling.low,
        "white": scaling.high,
        "informative": informative,
        "shown": sheet.numbers,
        "model": None,
    }
    if used is not None and verdict is not None:
        told["model"] = {
            "name": used.name,
            "version": used.version,
            "variant": used.predictor.settings.variant,
            "seed": used.predictor.seed,
            "probabilities": dict(verdict.probabilities),
            "kept": list(verdict.kept),
            "attention": list(verdict.attention),
        }
    return sheet, told


def _verdict(exam: Exam, used: Used, params: Params) -> Verdict:
    from keyslice.evaluation.palette import looks

    [found] = used.predictor.predict_arrays([exam.frames])
    settings = used.predictor.settings
    look = looks(params.variants).get(settings.variant)
    back = exam.reversed
    return Verdict(
        model=f"{used.name} {used.version}",
        variant=f"{settings.variant}: keeps {settings.keep:.0%} of the frames, "
        f"seed {used.predictor.seed}",
        colour=look.colour if look else DEFAULT_COLOUR,
        probabilities=found.probabilities,
        kept=from_other_end(found.kept, len(exam.frames)) if back else found.kept,
        attention=found.attention[::-1] if back else found.attention,
    )


def _facts(
    exam: Exam, one: Known | None, prepare: Prepare, scaling: Scaling
) -> list[tuple[str, str]]:
    count, height, width = exam.frames.shape[:3]
    facts = [("dataset", "none: not ingested")]
    if one is not None:
        facts = [("dataset", f"{one.dataset}, {one.row['split']}"), ("label", one.row["label"])]
    kind = " ".join(filter(None, (exam.plane, "slices" if exam.plane else "frames")))
    depth = "colour" if exam.channels == 3 else "grey"
    facts.append(("size", f"{count} {kind}, {width} × {height} pixels, {depth}"))
    if exam.spacing is not None:
        between, rows, columns = exam.spacing
        facts.append(("spacing", f"{between:g} mm; pixels {columns:g} × {rows:g} mm"))
    if exam.frame_time is not None:
        facts.append(
            ("time", f"{exam.frame_time:g} ms a frame ({1000 / exam.frame_time:.3g} a second)")
        )
    facts.append(("grey levels", _levels(exam.frames.dtype, prepare, scaling)))
    return facts


def _levels(dtype: np.dtype, prepare: Prepare, scaling: Scaling) -> str:
    intensity = prepare.intensity
    if dtype == np.uint8 and intensity.eight_bit != "map":
        return "as acquired"
    words = f"{scaling.low:g} is black, {scaling.high:g} is white"
    if intensity.window is not None:
        words += " (window: centre {:g}, width {:g})".format(*intensity.window)
    elif intensity.percentiles is not None:
        words += " (percentiles {:g} and {:g})".format(*intensity.percentiles)
    return words.replace("-", "−")


def _words(sheet: Sheet) -> str:
    words = f"{len(sheet.numbers)} of {sheet.count} frames"
    if sheet.verdict is None:
        return words
    values = ", ".join(f"{name} {value:.3f}" for name, value in sheet.verdict.probabilities.items())
    return f"{words}; {sheet.verdict.model}: {values}; kept {ranges(sheet.verdict.kept)}"
