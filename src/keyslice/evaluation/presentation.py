"""The comparison in words and cells: one wording for page, Markdown and terminal."""

from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from keyslice.evaluation.summary import PAIRED

NONE = "–"


def decimals(value: float, places: int = 3) -> str:
    """0.843; a dash where there is no value."""
    return NONE if pd.isna(value) else f"{value:.{places}f}"


def spread(row: pd.Series, metric: str, places: int = 3) -> str:
    """Mean ± sd over seeds; the mean alone with one seed."""
    sd = row[f"{metric}_sd"]
    mean = decimals(row[f"{metric}_mean"], places)
    return mean if pd.isna(sd) else f"{mean} ± {sd:.{places}f}"


def interval(row: pd.Series, metric: str) -> str:
    """0.791 to 0.889."""
    return f"{decimals(row[f'{metric}_low'])} to {decimals(row[f'{metric}_high'])}"


def difference(row: pd.Series, column: str) -> str:
    """+0.012 (−0.010 to +0.034); a dash where there is none."""
    mean, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    return NONE if pd.isna(mean) else f"{signed(mean)} ({signed(low)} to {signed(high)})"


def signed(value: float) -> str:
    """+0.012 or −0.010; a dash where there is no value."""
    return NONE if pd.isna(value) else f"{value:+.3f}".replace("-", "−")


def count(value: float) -> str:
    """In millions: 15.4 M."""
    return NONE if pd.isna(value) else f"{value / 1e6:.1f} M"


def cells(table: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """The comparison as text: a row per variant, a column per heading that has any value."""
    columns = {
        "variant": table["variant"],
        "AUC": [spread(row, "auc") for _, row in table.iterrows()],
        "AUC interval": [interval(row, "auc") for _, row in table.iterrows()],
        "balanced accuracy": [spread(row, "balanced_accuracy") for _, row in table.iterrows()],
        "its interval": [interval(row, "balanced_accuracy") for _, row in table.iterrows()],
        "accuracy": [spread(row, "accuracy") for _, row in table.iterrows()],
    }
    for reference in references:
        column = f"auc_minus_{reference}"
        columns[f"AUC − {reference}"] = [difference(row, column) for _, row in table.iterrows()]
    columns |= {
        "AUC, one look": [spread(row, "auc_plain") for _, row in table.iterrows()],
        "gain in AUC": [difference(row, "auc_gain") for _, row in table.iterrows()],
        "gain in bal. acc.": [
            difference(row, "balanced_accuracy_gain") for _, row in table.iterrows()
        ],
        "Brier": [spread(row, "brier") for _, row in table.iterrows()],
        "calibration error": [spread(row, "calibration_error") for _, row in table.iterrows()],
        "cost": [decimals(value) for value in table["cost"]],
        "cost, one look": [decimals(value) for value in table["plain_cost"]],
        "MACs": [count(value) for value in table["macs"]],
        "kept": [decimals(value, 1) for value in table["frames_kept"]],
        "distinct": [decimals(value, 1) for value in table["distinct_frames"]],
        "hit rate": [decimals(value, 2) for value in table["hit_rate"]],
        "informative kept": [decimals(value, 2) for value in table["informative_recall"]],
        "published AUC": [decimals(value) for value in table["published_auc"]],
        "published accuracy": [decimals(value) for value in table["published_accuracy"]],
    }
    text = pd.DataFrame(columns)
    return text.loc[:, (text != NONE).any()]


def markdown(table: pd.DataFrame, references: Sequence[str]) -> str:
    """A pipe table of `cells`."""
    return pipes(cells(table, references))


def brief(table: pd.DataFrame, references: Sequence[str]) -> str:
    """A pipe table of the few `cells` that tell the variants apart."""
    columns = [
        "variant",
        "AUC",
        "balanced accuracy",
        *[f"AUC − {reference}" for reference in references],
        "gain in AUC",
        "cost",
        "cost, one look",
        "published AUC",
    ]
    text = cells(table, references)
    return pipes(text[text.columns.intersection(columns, sort=False)])


def pipes(text: pd.DataFrame, others: str = "--:") -> str:
    """Cells of text as a pipe table; `others` aligns all columns but the first, which is left."""
    align = [":--", *[others] * (text.shape[1] - 1)]
    # A site may be named with what would end a cell.
    cells = [[cell.replace("|", "\\|") for cell in row] for row in text.to_numpy().tolist()]
    return "".join(f"| {' | '.join(row)} |\n" for row in [list(text.columns), align, *cells])


def terminal(table: pd.DataFrame, reference: str | None, candidate: str | None) -> Table:
    """The comparison within 80 columns; names that are too long for that are folded, never cut.

    Args:
        table: of `keyslice.evaluation.comparison.compare`, or read back from comparison.csv.
        reference: the variant that Δ AUC is the difference to; None leaves the column out.
        candidate: the chosen variant, whose row is marked; None marks none.
    """
    hits, often = table["hit_rate"].notna().any(), _looks_more(table)
    seeds = "one seed" if table["auc_sd"].isna().all() else "mean ± sd over seeds"
    view = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 1),
        caption=f"test exams, {seeds}; intervals are in the report"
        + "\n+ looks more than once" * bool(often.any()),
        caption_justify="left",
    )
    view.add_column("variant", overflow="fold")
    for heading in ("AUC", "bal. acc."):
        view.add_column(heading, justify="right", no_wrap=True)
    if reference:
        view.add_column(f"Δ {reference}", justify="right", overflow="fold", min_width=6)
    for heading in ("cost", *["hits"] * bool(hits)):
        view.add_column(heading, justify="right", no_wrap=True)
    for (_, row), more in zip(table.iterrows(), often, strict=True):
        chosen = row["variant"] == candidate
        values = [f"{row['variant']}{' +' * more}{' ◀' * chosen}", spread(row, "auc")]
        values.append(spread(row, "balanced_accuracy"))
        if reference:
            values.append(signed(row[f"auc_minus_{reference}"]))
        values.append(NONE if pd.isna(row["cost"]) else f"{row['cost']:.2f}×")
        if hits:
            values.append(NONE if pd.isna(row["hit_rate"]) else f"{row['hit_rate']:.0%}")
        view.add_row(*values, style="bold green" if chosen else None)
    return view


def _looks_more(table: pd.DataFrame) -> pd.Series:
    """Which variants do so; an earlier release's table has no gains."""
    return table.get("auc_gain", pd.Series(float("nan"), table.index)).notna()


def gains(table: pd.DataFrame) -> Table | None:
    """What looking more than once gains and costs, within 80 columns; None where no variant does.

    Args:
        table: as for `terminal`.
    """
    often = _looks_more(table)
    if not often.any():
        return None
    view = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 1),
        title="Looking more than once, against one look",
        title_justify="left",
        title_style="",
        caption_justify="left",
        caption_style="red",
    )
    view.add_column("variant", overflow="fold")
    for heading in ("gain in AUC", "in balanced accuracy", "cost"):
        view.add_column(heading, justify="right", no_wrap=True)
    for _, row in table[often].iterrows():
        loses = any(row[f"{metric}_gain_high"] < 0 for metric in PAIRED)
        view.add_row(
            f"{row['variant']}{' ▼' * loses}",
            *(difference(row, f"{metric}_gain") for metric in PAIRED),
            NONE if pd.isna(row["cost"]) else f"{row['cost'] / row['plain_cost']:.2f}×",
            style="red" if loses else None,
        )
        if loses:
            view.caption = "▼ loses by it: an interval lies below 0"
    return view
