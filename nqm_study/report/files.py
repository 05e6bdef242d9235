"""The figures, and the tables of schedules and regrets, as files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from nqm_study.report.axes import nqm_style
from nqm_study.report.figures import learning_rate_figure, steps_figure
from nqm_study.report.noise_scale import noise_scale_csv, noise_scale_figure
from nqm_study.report.pareto import Frontier
from nqm_study.report.pareto_figure import pareto_csv, pareto_figure
from nqm_study.report.regret import Comparison
from nqm_study.report.regret_figure import regret_csv, regret_figure
from nqm_study.report.runs import Run
from nqm_study.report.scaling import Curve, compared
from nqm_study.report.schedules import schedules_csv, schedules_figure
from nqm_study.report.training import training_csv, training_figure

_FORMATS = (("png", {"Software": None}), ("svg", {"Date": None}))


def write_figures(
    curves: Sequence[Curve],
    folder: Path,
    comparisons: Sequence[Comparison] = (),
    frontiers: Sequence[Frontier] = (),
    runs: Sequence[Run] = (),
) -> tuple[Path, ...]:
    """Write ``steps_to_target`` and ``learning_rate`` as PNG and SVG into the folder.

    Where a curve has computed schedules, write ``schedules`` as well, and ``schedules.csv``; where
    there are comparisons of samplers, ``regret`` and ``regret.csv``, and where there are frontiers
    of steps and examples, ``pareto`` and ``pareto.csv``. Without curves there are only these. Where
    the course of runs is known, write ``noise_scale`` and, of runs at given learning rates,
    ``training``, each with its ``.csv``; the first two then have such curves only if there are no
    others.

    The same curves and comparisons give the same bytes. Each file is replaced at once: a reader
    sees the old or the new one, never a part.

    Raises:
        ValueError: unless the curves are of one spectrum and one target, and at least one, if there
            are no frontiers.
        OSError: where the folder cannot be written.
    """
    figures = {}
    if curves or not frontiers:
        figures["steps_to_target"] = steps_figure(compared(curves))
        figures["learning_rate"] = learning_rate_figure(compared(curves))
    schedules = schedules_figure(curves) if curves else None
    if schedules is not None:
        figures["schedules"] = schedules
    regret = regret_figure(comparisons)
    if regret is not None:
        figures["regret"] = regret
    pareto = pareto_figure(frontiers)
    if pareto is not None:
        figures["pareto"] = pareto
    training = training_figure(runs)
    if training is not None:
        figures["training"] = training
    noise_scale = noise_scale_figure(runs)
    if noise_scale is not None:
        figures["noise_scale"] = noise_scale
    contents = {
        f"{name}.{extension}": _rendered(figure, extension, metadata)
        for name, figure in figures.items()
        for extension, metadata in _FORMATS
    }
    if schedules is not None:
        contents["schedules.csv"] = schedules_csv(curves).encode()
    if regret is not None:
        contents["regret.csv"] = regret_csv(comparisons).encode()
    if pareto is not None:
        contents["pareto.csv"] = pareto_csv(frontiers).encode()
    if training is not None:
        contents["training.csv"] = training_csv(runs).encode()
    if noise_scale is not None:
        contents["noise_scale.csv"] = noise_scale_csv(runs).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _replace(folder / name, content)
    return tuple(folder / name for name in contents)


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
