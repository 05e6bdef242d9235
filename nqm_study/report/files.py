"""The figures, and the tables of schedules and regrets, as files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from nqm_study.report.analysis.files import analysis_files
from nqm_study.report.analysis.measure import analyses
from nqm_study.report.axes import nqm_style
from nqm_study.report.captions import problem_text
from nqm_study.report.figures import learning_rate_figure, steps_figure
from nqm_study.report.noise_scale import noise_scale_csv, noise_scale_figure
from nqm_study.report.page import report_page
from nqm_study.report.pareto import Frontier
from nqm_study.report.pareto_figure import pareto_csv, pareto_figure
from nqm_study.report.regret import Comparison
from nqm_study.report.regret_figure import regret_csv, regret_figure
from nqm_study.report.runs import Run
from nqm_study.report.scaling import Curve, compared
from nqm_study.report.schedules import schedules_csv, schedules_figure
from nqm_study.report.training import training_csv, training_figure

_FORMATS = (("png", {"Software": None}), ("svg", {"Date": None}), ("pdf", {"CreationDate": None}))


def write_figures(
    curves: Sequence[Curve],
    folder: Path,
    comparisons: Sequence[Comparison] = (),
    frontiers: Sequence[Frontier] = (),
    runs: Sequence[Run] = (),
) -> tuple[Path, ...]:
    """Write ``steps_to_target`` and ``learning_rate`` as PNG, SVG and PDF into the folder.

    Where a curve has computed schedules, write ``schedules`` as well, and ``schedules.csv``; where
    there are comparisons of samplers, ``regret`` and ``regret.csv``, and where there are frontiers
    of steps and examples, ``pareto`` and ``pareto.csv``. Without curves there are only these. With
    two batch sizes on a curve there are ``analysis.csv``, ``.tex``, ``.md`` and ``.json``, and
    ``analysis_products.csv``. Where the course of runs is known, there are ``noise_scale`` and, of
    runs at given learning rates, ``training``, each with its ``.csv``; the first two then have such
    curves only if there are no others. The curves are in ``report.html`` as well, a page with a
    chart to look into.

    The same curves and comparisons give the same bytes. Each file is replaced at once: a reader
    sees the old or the new one, never a part.

    Raises:
        ValueError: without curves and without frontiers.
        OSError: where the folder cannot be written.
    """
    drawn = _figures(curves, comparisons, frontiers, runs)
    tables = {
        "schedules": lambda: schedules_csv(curves),
        "regret": lambda: regret_csv(comparisons),
        "pareto": lambda: pareto_csv(frontiers),
        "training": lambda: training_csv(runs),
        "noise_scale": lambda: noise_scale_csv(runs),
    }
    contents: dict[str, bytes] = {}
    for name, figure in drawn.items():
        _settle(figure)
        for extension, metadata in _FORMATS:
            contents[f"{name}.{extension}"] = _rendered(figure, extension, metadata)
        if name in tables:
            contents[f"{name}.csv"] = tables[name]().encode()
    contents.update(analysis_files(analyses(curves)))
    if curves:
        contents["report.html"] = report_page(curves, problem_text(curves)).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _replace(folder / name, content)
    return tuple(folder / name for name in contents)


def _figures(
    curves: Sequence[Curve],
    comparisons: Sequence[Comparison],
    frontiers: Sequence[Frontier],
    runs: Sequence[Run],
) -> dict[str, Figure]:
    """The figures that there is something to draw in, by name."""
    found: dict[str, Figure | None] = {}
    if curves or not frontiers:
        found["steps_to_target"] = steps_figure(compared(curves))
        found["learning_rate"] = learning_rate_figure(compared(curves))
    found["schedules"] = schedules_figure(curves) if curves else None
    found["regret"] = regret_figure(comparisons)
    found["pareto"] = pareto_figure(frontiers)
    found["training"] = training_figure(runs)
    found["noise_scale"] = noise_scale_figure(runs)
    return {name: figure for name, figure in found.items() if figure is not None}


def _settle(figure: Figure) -> None:
    """Lay the figure out once, for all formats: it takes as long as writing one."""
    with nqm_style():
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _rendered(figure: Figure, extension: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    with nqm_style():
        figure.savefig(buffer, format=extension, metadata=metadata)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
