"""The stage on real files in a workspace of three variants."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from keyslice.config import Params, Workspace
from keyslice.errors import UserError
from keyslice.evaluation import palette, predictions
from keyslice.initial import Ancestor
from keyslice.stages.compare import compare

SEEDS = (0, 1)
VARIANTS = {
    "full": {"sampler": "full"},
    "uniform": {"sampler": "uniform", "keep": 0.5},
    "das": {"sampler": "das", "keep": 0.5},
}


def settings(**changes):
    values = {
        "datasets": {"toy": {"source": "phantom", "kind": "volume", "classes": ["no", "<yes>"]}},
        "variants": VARIANTS,
        "evaluate": {"resamples": 50},
        "compare": {"contact_sheets": 2},
    }
    return Params.model_validate(values | changes)


def rows(variant):
    """Predictions of 24 exams of 12 patients; das is sure of itself and right."""
    rng = np.random.default_rng(sum(map(ord, variant)))
    skill = {"full": 2.0, "uniform": 0.5, "das": 3.0}[variant]
    found = []
    for number in range(24):
        label, frames = number % 2, 6
        for seed in SEEDS:
            p = 1 / (1 + np.exp(-rng.normal(skill * (label - 0.5), 0.5)))
            kept = np.arange(frames) if variant == "full" else np.sort(rng.permutation(frames)[:3])
            found.append(
                {
                    "exam_id": f"e{number:02d}",
                    "patient": f"p{number // 2}",
                    "split": "test" if (number // 2) % 2 else "validation",
                    "label": label,
                    "seed": seed,
                    "probabilities": np.array([1 - p, p]),
                    "frames": frames,
                    "kept": kept,
                    "attention": np.full(len(kept), 1 / len(kept), dtype=np.float32),
                    "macs": 10.0 * len(kept),
                    "informative": np.array([2, 3]) if label else None,
                }
            )
    return pd.DataFrame(found)


def filled(folder):
    """A workspace whose variants were trained and evaluated."""
    workspace = Workspace(folder)
    for variant in VARIANTS:
        folder = workspace.results("toy", variant)
        predictions.write(rows(variant), folder / "predictions.parquet")
        models = workspace.models("toy", variant)
        models.mkdir(parents=True)
        about = {"weights": {"source": "hub:x.in1k", "sha256": "0"}, "device": "cpu"}
        (models / "settings.json").write_text(json.dumps(about))
        for seed in SEEDS:
            folder = models / f"seed-{seed}"
            folder.mkdir()
            history = "epoch,train_loss,validation_loss,validation_auc\n0,1,1,0.5\n1,0.5,0.6,0.7\n"
            (folder / "history.csv").write_text(history)
            summary = {"best_epoch": 1, "epochs": 2, "warnings": ["heads <alike>"][: seed == 1]}
            (folder / "summary.json").write_text(json.dumps(summary))
    return workspace


@pytest.fixture
def workspace(tmp_path):
    return filled(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The contents of a comparison, made once."""
    return contents(run(filled(tmp_path_factory.mktemp("finished"))))


@pytest.fixture
def _no_figures(monkeypatch):
    """They take seconds to be drawn; for those who ask for words only."""
    monkeypatch.setattr(palette, "svg", lambda figure: "<svg></svg>")


def frames_of(exam_id):
    return np.full((6, 1, 8, 8), int(exam_id[1:]), dtype=np.uint8)


def run(workspace, params=None, version=None):
    compare(workspace, params or settings(), "toy", version=version, frames_of=frames_of)
    return workspace.comparison("toy")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_tables_report_figures_and_candidate_are_written(finished):
    assert set(finished) == {
        "comparison.csv",
        "comparison.md",
        "report.html",
        "candidate.json",
        "figures/auc.svg",
        "figures/balanced_accuracy.svg",
        "figures/positions.svg",
        "figures/exam_maps.svg",
    }


@pytest.mark.usefixtures("_no_figures")
def test_that_variants_started_from_other_weights_is_told(workspace, finished):
    assert b"samplers alone" not in finished["comparison.md"] + finished["report.html"]
    file = workspace.models("toy", "das") / "settings.json"
    champion = Ancestor("toy", 3, "1.dir", "p", "w", ("no",), "das", "x", "hub:x.in1k", "0")
    about = json.loads(file.read_text()) | {"initial": champion.dumped()}
    file.write_text(json.dumps(about))
    folder = run(workspace)
    for name in ("comparison.md", "report.html"):
        told = (folder / name).read_text()
        assert "started from other weights (hub:x.in1k: full, uniform; toy/3: das)" in told


def test_the_candidate_is_the_best_of_the_learned(finished):
    candidate = json.loads(finished["candidate.json"])
    assert set(candidate) == {
        "dataset",
        "variant",
        "seed",
        "validation_auc",
        "macs",
        "reason",
        "warning",
    }
    assert (candidate["dataset"], candidate["variant"]) == ("toy", "das")
    assert candidate["seed"] in SEEDS


def test_the_same_results_give_the_same_bytes_whatever_else_lies_there(workspace, finished):
    stale = workspace.results("toy", "stale")
    stale.mkdir()
    (stale / "predictions.parquet").write_bytes(b"not parquet")
    workspace.comparison("toy").mkdir(parents=True)
    (workspace.comparison("toy") / "of an earlier comparison.txt").touch()
    assert contents(run(workspace)) == finished


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        ("results/toy/uniform/predictions.parquet", "evaluate@toy-uniform"),
        ("models/toy/das/settings.json", "train@toy-das"),
        ("models/toy/das/seed-1/history.csv", "train@toy-das"),
        ("models/toy/das/seed-0/summary.json", "train@toy-das"),
    ],
)
def test_a_missing_result_names_the_command_that_makes_it(workspace, missing, stage):
    (workspace.data / missing).unlink()
    with pytest.raises(UserError, match=f"dvc repro {stage}"):
        run(workspace)
    assert not workspace.comparison("toy").exists()


def test_results_of_other_exams_name_the_command_to_repeat(workspace):
    path = workspace.results("toy", "das") / "predictions.parquet"
    predictions.write(rows("das").query("exam_id != 'e03'"), path)
    with pytest.raises(UserError, match=r"full and das.*dvc repro evaluate@toy-das"):
        run(workspace)


def test_an_unknown_dataset_is_refused(workspace):
    with pytest.raises(UserError, match="toi"):
        compare(workspace, settings(), "toi", version=None)


class Page(HTMLParser):
    """What a page refers to, and its tags while they are open."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.references, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        assert tag not in {"script", "link", "iframe", "img"}
        self.references += [value for name, value in attributes if name in {"src", "href"}]
        self.references += [value for name, value in attributes if name == "xlink:href"]
        self.open += [] if tag in self.VOID else [tag]

    def handle_startendtag(self, tag, attributes):
        self.references += [value for name, value in attributes if name.endswith("href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(finished):
    return finished["report.html"].decode()


def parsed(page):
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_report_refers_to_nothing_outside_itself(page):
    assert all(value.startswith(("#", "data:")) for value in parsed(page).references)
    addresses = re.findall(r"url\(([^)]{0,20})", page)
    assert all(address.startswith(("#", "data:", "&#34;#")) for address in addresses)


def test_the_report_escapes_what_it_is_told(page):
    text = "".join(parsed(page).text)
    assert "<yes>" in text
    assert "heads <alike>" in text


def test_the_report_names_candidate_and_every_variant(page):
    text = " ".join("".join(parsed(page).text).split())
    candidate = re.search(r"Candidate das seed \d", text)
    assert candidate
    for variant in VARIANTS:
        assert f"{variant} keeps" in text


def test_the_report_shows_as_many_exams_as_set(page):
    assert page.count('<article class="exam"') == 2


@pytest.mark.usefixtures("_no_figures")
def test_the_report_says_which_weights_the_networks_started_from_and_where(workspace, page):
    text = "".join(parsed(page).text)
    assert "starting weights hub:x.in1k\n" in text
    assert "trained on cpu\n" in text
    about = {"weights": {"source": "none", "sha256": None}, "device": "cuda"}
    (workspace.models("toy", "das") / "settings.json").write_text(json.dumps(about))
    text = (run(workspace) / "report.html").read_text()
    assert "starting weights hub:x.in1k, none" in text
    assert "trained on cpu, cuda" in text


@pytest.mark.usefixtures("_no_figures")
def test_the_report_tells_what_looking_more_than_once_gains_and_costs(workspace, page):
    assert "Looking more than once" not in page
    path = workspace.results("toy", "das") / "predictions.parquet"
    table = predictions.read(path)
    once = table["probabilities"].map(lambda p: p * 0.1 + 0.45)
    predictions.write(table.assign(macs=60.0, plain_probabilities=once, plain_macs=30.0), path)
    looks = {"das": {"budget": 4, "aggregation": "entropy"}}
    folder = run(workspace, settings(evaluate={"resamples": 50, "test_time": {"variants": looks}}))
    often = (folder / "report.html").read_text()
    section = often.split("Looking more than once</h2>")[1].split("</section>")[0]
    assert re.findall(r"</i>(\w+)<small>(at 4 states .* weighted by certainty)", section) == [
        ("das", "at 4 states of the first 2 levels of subsampling layers, the most certain "
         "first, weighted by certainty")
    ]  # fmt: skip
    assert "1.00</span><small>0.50 with one look" in section
    assert "All look" not in section
    assert (folder / "figures" / "looks.svg").is_file()
    assert "gain in AUC" in (folder / "comparison.md").read_text()


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize("worse", ["validation", "test"])
def test_only_a_loss_on_validation_exams_speaks_against_the_candidate(workspace, worse):
    path = workspace.results("toy", "das") / "predictions.parquet"
    table = predictions.read(path)
    truth = table["label"].map(lambda label: np.array([0.9, 0.1][:: 1 - 2 * label]))
    opposite = truth.map(lambda p: p[::-1])
    lost = table["split"] == worse
    often = {"probabilities": truth.mask(lost, opposite), "macs": 60.0}
    once = {"plain_probabilities": opposite.mask(lost, truth), "plain_macs": 30.0}
    predictions.write(table.assign(**often, **once), path)
    looks = {"budget": 4, "variants": {"full": {"budget": 1}, "uniform": {"budget": 1}}}
    own = {"evaluate": {"resamples": 50, "test_time": looks}, "compare": {"candidates": ["das"]}}
    folder = run(workspace, settings(**own))
    candidate = json.loads((folder / "candidate.json").read_text())
    assert candidate["variant"] == "das"
    warned = (
        "With one look its AUC on validation exams is higher, by 1.000 (" in (candidate["warning"])
    )
    assert warned is (worse == "validation")


def test_how_often_variants_look_is_said_once_where_all_do_alike(workspace):
    for variant in VARIANTS:
        path = workspace.results("toy", variant) / "predictions.parquet"
        table = predictions.read(path)
        plain = {"plain_probabilities": table["probabilities"], "plain_macs": table["macs"]}
        predictions.write(table.assign(**plain), path)
    folder = run(workspace, settings(evaluate={"resamples": 50, "test_time": {"budget": 4}}))
    text = (folder / "report.html").read_text()
    assert text.count("at 4 states of the first 2 levels") == 1
    assert "All look at 4 states" in text


def test_the_report_names_the_dataset_version(workspace):
    assert "0123abcd.dir" in (run(workspace, version="0123abcd.dir") / "report.html").read_text()


@pytest.mark.usefixtures("_no_figures")
def test_the_report_says_when_patients_are_unknown(workspace, page):
    for variant in VARIANTS:
        path = workspace.results("toy", variant) / "predictions.parquet"
        predictions.write(rows(variant).assign(patient="unknown"), path)
    unknown = (run(workspace) / "report.html").read_text()
    assert "too narrow" in unknown
    assert "too narrow" not in page


@pytest.mark.usefixtures("_no_figures")
def test_published_figures_stand_in_the_report_of_a_public_set(workspace):
    public = {"source": "medmnist", "flag": "adrenalmnist3d", "classes": ["no", "yes"]}
    text = (run(workspace, settings(datasets={"toy": public})) / "report.html").read_text()
    assert "arXiv 2510.12376" in text
    assert "ResNet-18 (3D) 0.827 / 0.721" in text


@pytest.mark.usefixtures("_no_figures")
def test_published_figures_are_not_set_beside_those_of_another_size(workspace):
    public = {"source": "medmnist", "flag": "adrenalmnist3d", "classes": ["no", "yes"], "size": 64}
    folder = run(workspace, settings(datasets={"toy": public}))
    assert "arXiv 2510.12376" not in (folder / "report.html").read_text()
    assert pd.read_csv(folder / "comparison.csv")["published_auc"].isna().all()
