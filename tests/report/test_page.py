import dataclasses
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fake_records import (
    ADAM,
    CAP,
    adam,
    bounded,
    crossed,
    curves,
    greedy,
    momentum,
    optimal,
    sgd,
    study,
    trial,
    with_optima,
)
from plotly.graph_objects import Figure

from nqm_study.report.axes import nqm_style
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve
from nqm_study.report.describe import describe
from nqm_study.report.frame import studies_frame
from nqm_study.report.looks import curve_looks
from nqm_study.report.page import _SYMBOLS, page_figure, report_page
from nqm_study.report.write import write_figures
from nqm_study.study.records import StudyRecord

THREE = bounded(with_optima(sgd(), lambda b: 0.02 if b > 100 else 0.0)) + momentum() + adam()
UNREACHED = study(trial(None), batch_size=4**11, optimizer="adam", hyperparameters=ADAM)
CASES = {
    "three": THREE,
    "unreached": [*adam(), UNREACHED],
    "nothing reached": [study(trial(None), batch_size=4)],
    "single": with_optima(sgd([256])),
    "computed": optimal() + greedy(),
    "two targets": sgd() + sgd(target=0.02) + adam(spectrum="other", spectrum_digest="d2"),
}
VOID = {"meta", "link", "br"}
PACKED = r'(<script type="application/gzip" id="plotly">)[^<]*'


class Page(HTMLParser):
    """A page's elements with their texts, each closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.declaration = ""
        # Two million letters of the packed library say nothing here.
        self.feed(re.sub(PACKED, r"\1", text))
        self.close()
        assert not self._open

    def handle_decl(self, decl: str) -> None:
        self.declaration = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found.append((*self._open[-1], data))

    def texts(self, tag: str) -> list[str]:
        return [text for name, _, text in self.found if name == tag and text]

    def text_of(self, identifier: str) -> str:
        return "".join(text for _, attrs, text in self.found if attrs.get("id") == identifier)


def page(records: list[StudyRecord], title: str = "A report") -> Page:
    return Page(report_page(curves(records), title))


def figure(records: list[StudyRecord]) -> Figure:
    return page_figure(curves(records))


def axes(records: list[StudyRecord]) -> dict[str, dict[str, Any]]:
    """The axes that can be chosen, by quantity: first the vertical ones."""
    found: dict[str, dict[str, Any]] = {}
    for menu in figure(records).layout.updatemenus:
        for button in menu.buttons:
            (axis,) = button.args[1].values()
            found.setdefault(button.name, axis)
    return found


def choices(records: list[StudyRecord], letter: str) -> dict[str, dict[str, list[Any]]]:
    """What each choice of an axis changes of the lines, by the name of the quantity."""
    menu = figure(records).layout.updatemenus["yx".index(letter)]
    return {button.name: button.args[0] for button in menu.buttons}


def lines(records: list[StudyRecord]) -> dict[str, dict[str, list[float | None]]]:
    """Values by the names of lines and quantities."""
    names = [trace.name for trace in figure(records).data]
    values = {
        **{name: found["y"] for name, found in choices(records, "y").items()},
        **{name: found["x"] for name, found in choices(records, "x").items()},
    }
    return {
        line: {name: found[place] for name, found in values.items()}
        for place, line in enumerate(names)
    }


@pytest.mark.parametrize("records", CASES.values(), ids=CASES)
def test_page_is_a_document_with_language_title_and_encoding(records: list[StudyRecord]) -> None:
    made = page(records)
    assert made.declaration == "DOCTYPE html"
    elements = [(tag, attrs) for tag, attrs, _ in made.found]
    assert ("html", {"lang": "en"}) in elements
    assert ("meta", {"charset": "utf-8"}) in elements
    assert made.texts("title") == made.texts("h1") == ["A report"]


@pytest.mark.parametrize("records", CASES.values(), ids=CASES)
def test_plotly_takes_what_every_choice_changes(records: list[StudyRecord]) -> None:
    made = figure(records)
    for menu in made.layout.updatemenus:
        for button in menu.buttons:
            restyle, relayout = button.args
            made.update_layout(relayout)
            for place, trace in enumerate(made.data):
                trace.update({key: values[place] for key, values in restyle.items()})


@pytest.mark.parametrize("records", CASES.values(), ids=CASES)
def test_values_fit_their_axes(records: list[StudyRecord]) -> None:
    made = axes(records)
    for line, values in lines(records).items():
        assert values.keys() == made.keys()
        for name, found in values.items():
            if made[name]["type"] == "log":
                assert all(value is None or value > 0.0 for value in found), (line, name)


@pytest.mark.parametrize("records", CASES.values(), ids=CASES)
def test_at_first_steps_are_against_batch_size(records: list[StudyRecord]) -> None:
    made, values = figure(records), lines(records)
    for trace in made.data:
        if trace.name != "target not reached":
            assert list(trace.y) == values[trace.name]["steps"]
        assert list(trace.x) == values[trace.name]["batch_size"]
    assert made.layout.xaxis.title.text == "batch size, B (examples)"


def test_curves_look_as_they_do_in_the_figures() -> None:
    drawn = curves(crossed())
    with nqm_style():
        looks = curve_looks(drawn)
    dashes = {"-": "solid", "--": "dash"}
    assert len({look.color for look in looks}) == len({look.marker for look in looks}) == 4
    expected = {
        curve.label: (look.color.lower(), dashes[look.linestyle], look.marker)
        for curve, look in zip(drawn, looks, strict=True)
    }
    markers = {symbol: marker for marker, symbol in _SYMBOLS.items()}
    assert expected == {
        trace.name: (trace.line.color.lower(), trace.line.dash, markers[trace.marker.symbol])
        for trace in figure(crossed()).data
        if trace.name in expected
    }


def test_no_element_loads_anything() -> None:
    made = page(THREE)
    given = [(tag, attrs) for tag, attrs, _ in made.found]
    assert all("src" not in attrs for _, attrs in given)
    assert {attrs["href"] for _, attrs in given if "href" in attrs} == {"data:,"}
    assert "http" not in re.sub(PACKED, "", report_page(curves(THREE), "t"))


def test_same_curves_give_the_same_bytes(tmp_path: Path) -> None:
    shuffled = THREE[::-1]
    assert report_page(curves(THREE), "t") == report_page(curves(shuffled), "t")
    written = write_figures(studies_frame(THREE), tmp_path)
    (file,) = [path for path in written if path.suffix == ".html"]
    assert file.name == "report.html"
    assert file.read_text() == report_page(curves(THREE), "paper, target loss 0.01")


def test_words_and_points_are_there_without_a_script() -> None:
    drawn = curves(THREE)
    made = page(THREE)
    assert made.texts("figcaption")[0].startswith(caption(drawn))
    said = [*made.texts("li"), *made.texts("p")]
    assert " ".join(said) == describe(drawn).removeprefix(caption(drawn)).strip()
    assert len(made.texts("li")) == len(drawn)
    opened = [tag for tag, _, _ in made.found if tag in ("li", "details", "p")]
    assert opened.index("details") < opened.index("p"), "definitions are folded away"
    cells = made.texts("td")
    n_points = sum(len(curve.points) for curve in drawn)
    assert len(cells) == n_points * len(made.texts("th"))
    assert made.texts("th")[:4] == ["optimizer", "batch size", "steps", "over optimum"]
    assert cells[:4] == ["sgd", "4", "1,513,434", "0 %"]


def test_batch_size_that_missed_the_target_is_a_row_and_a_marker() -> None:
    records = [*adam(), UNREACHED]
    assert "target not reached" in page(records).texts("td")
    (hollow,) = [trace for trace in figure(records).data if trace.name == "target not reached"]
    assert hollow.yaxis == "y2"
    assert all(change["y"][-1] == [0.98] for change in choices(records, "y").values())
    assert lines(records)["target not reached"]["batch_size"] == [4.0**11]


def test_every_quantity_is_of_the_points() -> None:
    found = lines(THREE)
    by_label = {curve.label: curve for curve in curves(THREE)}
    points = by_label["momentum"].points
    values = found["momentum"]
    assert values["batch_size"] == [p.batch_size for p in points]
    assert values["steps"] == [p.steps for p in points]
    assert values["examples"] == [p.steps * p.batch_size for p in points]
    assert values["learning_rate"] == [p.hyperparameters["learning_rate"] for p in points]
    assert values["effective_rate"] == [p.effective_rate for p in points]
    assert values["hyperparameter momentum"] == [1 - p.hyperparameters["momentum"] for p in points]
    assert values["ratio"] == [p.ratio_to_bound for p in points]
    assert values["excess"] == [None] * len(points), "no true optimum is known"
    assert found["sgd"]["excess"][0] == 0.0
    assert found["sgd"]["excess"][-1] == pytest.approx(2.0, abs=0.05)
    bound = [float(p.bayes_bound) for p in points]
    assert found["Bayes bound"]["steps"] == bound
    assert found["Bayes bound"]["learning_rate"] == [None] * len(points)
    assert found["true optimum"]["steps"] == [
        float(p.optimum.steps) for p in by_label["sgd"].points if p.optimum
    ]


def test_only_what_is_known_can_be_chosen() -> None:
    assert set(axes(adam())) == {"batch_size", "steps", "examples", "learning_rate", "ratio"}
    assert list(choices(adam(), "y")) == ["steps", "examples", "learning_rate", "ratio"]
    assert list(choices(adam(), "x")) == ["batch_size", "steps", "examples", "learning_rate"]
    assert "effective_rate" in axes(momentum())


def test_what_a_line_does_not_have_takes_it_out_of_the_legend() -> None:
    names = [trace.name for trace in figure(THREE).data]
    bound, last = names.index("Bayes bound"), names.index("adam")
    upright, level = choices(THREE, "y"), choices(THREE, "x")
    assert [upright[name]["showlegend"][bound] for name in ("steps", "learning_rate")] == [1, 0]
    assert [level[name]["legend"][bound] for name in ("steps", "learning_rate")] == [
        "legend",
        "legend2",
    ]
    assert figure(THREE).layout.legend2.visible is False
    assert upright["learning_rate"]["showlegend"][last]
    assert level["learning_rate"]["legend"][last] == "legend"


def test_steps_and_batch_sizes_have_ticks_at_powers_of_two() -> None:
    made = axes(THREE)
    for name in ("steps", "batch_size", "examples"):
        ticks = dict(zip(made[name]["ticktext"], made[name]["tickvals"], strict=True))
        assert 8 <= len(ticks) <= 24
        assert all(label == f"2<sup>{math.log2(value):.0f}</sup>" for label, value in ticks.items())
    assert "tickvals" not in made["learning_rate"]


def test_bars_reach_over_the_seeds() -> None:
    seeds = [
        study(trial(steps), batch_size=16, seed=seed, bayes_bound=100)
        for seed, steps in enumerate((1000, 1500, 3000))
    ]
    made = figure(seeds)
    (place,) = [i for i, trace in enumerate(made.data) if trace.name == "sgd"]
    assert made.data[place].y == (1500.0,)
    upright = choices(seeds, "y")
    for name, above, below in (("steps", 1500.0, 500.0), ("ratio", 15.0, 5.0)):
        bars = upright[name]["error_y"][place]
        assert (bars["array"], bars["arrayminus"]) == ([above], [below])
        assert (bars["visible"], bars["symmetric"]) == (True, False)
    assert choices(seeds, "x")["batch_size"]["error_x"][place] == {"visible": False}
    assert "1,000 to 3,000 steps over seeds" in made.data[place].hovertext[0]


def test_references_of_two_targets_are_told_apart() -> None:
    names = list(lines(CASES["two targets"]))
    assert "sgd, paper, target 0.01" in names
    assert sum(name.startswith("Bayes bound (") for name in names) == 3


def test_peak_rate_of_a_schedule_is_called_so() -> None:
    found = axes(optimal())["learning_rate"]
    assert found["title"] == {"text": "best peak learning rate (as in PyTorch)"}
    largest = lines(optimal())["sgd, optimal"]["learning_rate"][-1]
    assert largest == pytest.approx(CAP)


def hostile(drawn: tuple[Curve, ...]) -> list[Curve]:
    text = "</script><script>alert(1)</script><b>&amp;"
    return [
        dataclasses.replace(curve, label=text, spectrum_text=text, spectrum=text) for curve in drawn
    ]


def test_text_of_a_user_stays_text() -> None:
    drawn = hostile(curves([*bounded(sgd()), study(trial(None), batch_size=4**11)]))
    text = report_page(drawn, drawn[0].label)
    made = Page(text)
    assert made.texts("h1") == [drawn[0].label]
    assert drawn[0].label in made.texts("figcaption")[0]
    # Of the chart, the theme's, the packed library and what unpacks it.
    assert len(re.findall("<script", text)) == 4
    for trace in page_figure(drawn).data:
        shown = trace.name + "".join(trace.hovertext)
        # Plotly formats by tags, and reads entities.
        assert "<script" not in shown.replace("<br>", "")
        assert "<b>" not in shown
        assert "&amp;amp;" in shown or "Bayes" in shown or "(2 C B)" in shown or "SGD" in shown


def test_no_curves_are_refused() -> None:
    with pytest.raises(ValueError, match=r"curves=\(\): must be at least one"):
        report_page([], "t")
