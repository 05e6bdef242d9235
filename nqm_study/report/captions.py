"""Captions: the spectrum, target and schedule that the curves of a figure share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nqm_study.report.curves import Curve

_MOST_NAMES = 4


def caption(curves: Sequence[Curve]) -> str:
    """Caption of curves: their spectra, targets and schedules in a line or two."""
    spectra = _spectra(dict.fromkeys(curve.spectrum_text for curve in curves))
    targets = ", ".join(dict.fromkeys(f"{curve.target:g}" for curve in curves))
    schedules = listed(curve.schedule for curve in curves)
    text = f"Spectrum: {spectra}. Target loss: {targets}. Schedule: {schedules}."
    if any(point.seeds > 1 for curve in curves for point in curve.points):
        text += " Points are medians over seeds, bars their range."
    return text


def _spectra(texts: Iterable[str]) -> str:
    """List of spectra with their problems; a spectrum that all share is named once."""
    parts = [text.partition("), ") for text in texts]
    if len({spectrum for spectrum, _, _ in parts}) == 1 and all(end for _, _, end in parts):
        return "".join(parts[0][:2]) + ", ".join(problem for _, _, problem in parts)
    return ", ".join(map("".join, parts))


def problem_text(curves: Sequence[Curve]) -> str:
    """Title of curves: their spectra and targets, several with commas between."""
    spectra = listed(curve.spectrum_text for curve in curves)
    return f"{spectra}, target loss {listed(f'{curve.target:g}' for curve in curves)}"


def listed(names: Iterable[str]) -> str:
    """List of the different names, with commas between; ``various`` for more than four."""
    different = dict.fromkeys(names)
    return ", ".join(different) if len(different) <= _MOST_NAMES else "various"
