"""The interactive report as a reader uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import all_of, choose, chromium, console, keep_screenshot, one_of, requests, until
from fake_records import adam, bounded, curves, momentum, sgd, with_optima
from selenium.webdriver import ActionChains, Chrome

from nqm_study.report.page import report_page

pytestmark = pytest.mark.browser

DRAWN = curves(bounded(with_optima(sgd(), lambda _: 0.05)) + momentum() + adam())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser: Chrome, tmp_path: Path) -> Iterator[Chrome]:
    """A browser in which the page is open; at the end nothing went wrong and nothing was loaded."""
    file = tmp_path / "report.html"
    file.write_text(report_page(DRAWN, "A <report>"), "utf-8")
    console(browser)
    requests(browser)
    browser.get(file.as_uri())
    one_of(browser, ".legendtext", "sgd")
    yield browser
    assert console(browser) == []
    asked = [each for each in requests(browser) if each.split(":")[0] not in ("chrome", "data")]
    assert asked == [file.as_uri()]
    loaded = "return performance.getEntriesByType('resource').map(each => each.name)"
    assert [each for each in browser.execute_script(loaded) if not each.startswith("data:")] == []


def axis_title(page: Chrome, name: str) -> str:
    return one_of(page, f".{name}title").text


def shown_data(page: Chrome, name: str) -> dict[str, list[float]]:
    """What Plotly has on the axes for a line."""
    code = (
        "const line = document.getElementById('plot').data.find(each => each.name === arguments[0]"
        "); return {x: line.x, y: line.y};"
    )
    found: dict[str, list[float]] = page.execute_script(code, name)
    return found


def n_visible(page: Chrome) -> int:
    return len(all_of(page, ".scatterlayer .trace"))


def test_hovering_over_a_point_tells_its_values(page: Chrome) -> None:
    (curve,) = [each for each in DRAWN if each.label == "momentum"]
    index, point = 4, curve.points[4]
    marker = until(
        page,
        "the markers",
        lambda: [
            trace
            for trace in all_of(page, ".scatterlayer .trace")
            if len(trace.find_elements("css selector", ".points path")) == len(curve.points)
        ],
    )
    # Of the curves, in the order of the legend.
    path = marker[1].find_elements("css selector", ".points path")[index]
    ActionChains(page).move_to_element(path).perform()
    said = one_of(page, ".hovertext", "batch size").text
    for part in (
        "momentum",
        f"batch size {point.batch_size:.0f}",
        f"{point.steps:,.0f} steps",
        f"{point.examples:,.0f} examples",
        f"learning rate {point.hyperparameters['learning_rate']:.3g}",
        f"lr / (1 - momentum) {point.effective_rate:.3g}",
        "times the Bayes bound",
        "1 trials, 1 seed",
    ):
        assert part in said


def test_legend_hides_all_lines_of_a_curve_and_isolates_it(page: Chrome) -> None:
    before = n_visible(page)
    entry = one_of(page, ".legend .traces", "sgd").find_element("css selector", ".legendtoggle")
    ActionChains(page).click(entry).perform()
    # Its points and its true optima.
    until(page, "two lines fewer", lambda: n_visible(page) == before - 2)
    assert "sgd" in one_of(page, ".legend", "adam").text
    choose(page, "y", "examples to target")
    until(page, "the other axis", lambda: "examples" in axis_title(page, "y"))
    assert n_visible(page) == before - 2, "a choice of axis brings nothing back"
    entry = one_of(page, ".legend .traces", "adam").find_element("css selector", ".legendtoggle")
    ActionChains(page).double_click(entry).perform()
    until(page, "one line", lambda: n_visible(page) == 1)


def test_choices_change_titles_and_values(page: Chrome) -> None:
    (curve,) = [each for each in DRAWN if each.label == "adam"]
    assert axis_title(page, "y") == "steps to target, T (optimizer steps)"
    assert axis_title(page, "x") == "batch size, B (examples)"
    assert shown_data(page, "adam")["y"] == [p.steps for p in curve.points]
    choose(page, "y", "best learning rate")
    choose(page, "x", "examples to target")
    until(page, "the rate", lambda: axis_title(page, "y") == "best learning rate (as in PyTorch)")
    assert axis_title(page, "x") == "examples to target, T B"
    found = shown_data(page, "adam")
    assert found["y"] == [p.hyperparameters["learning_rate"] for p in curve.points]
    assert found["x"] == [p.examples for p in curve.points]
    assert "Bayes bound" not in one_of(page, ".legend", "adam").text, "it has no learning rate"


def test_button_switches_to_dark_and_back(page: Chrome, tmp_path: Path) -> None:
    colors = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.execute_script(colors)
    assert light == "rgb(255, 255, 255)"
    title = one_of(page, ".ytitle").value_of_css_property("fill")
    one_of(page, "#theme", "dark").click()
    until(page, "dark colours", lambda: page.execute_script(colors) != light)
    assert one_of(page, ".ytitle").value_of_css_property("fill") != title
    keep_screenshot(page, tmp_path, "report_dark")
    one_of(page, "#theme", "light").click()
    until(page, "light colours", lambda: page.execute_script(colors) == light)
    keep_screenshot(page, tmp_path, "report_light")


def test_page_follows_the_system_to_dark(page: Chrome) -> None:
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        page.refresh()
        one_of(page, ".legendtext", "sgd")
        assert one_of(page, "#theme").text == "light colours"
        fill = one_of(page, ".ytitle").value_of_css_property("fill")
        assert fill == "rgb(221, 221, 221)"
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        requests(page)  # the page a second time
        page.get(page.current_url)
        one_of(page, ".legendtext", "sgd")


def test_no_button_sends_the_chart_away(page: Chrome) -> None:
    titles = [each.get_attribute("data-title").lower() for each in all_of(page, ".modebar-btn")]
    wanted = ["download plot as a png", "zoom", "pan", "zoom in", "zoom out", "reset axes"]
    assert titles == wanted
