"""MLflow's own pages over a finished sweep, opened as the program's last lines say."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import all_of, choose, chromium, keep_screenshot, one_of, until
from mlflow.entities import Run
from program import TINY, run, runs
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from servers import MlflowServer

pytestmark = [pytest.mark.browser, pytest.mark.cluster, pytest.mark.slow]

SIZES, N_TRIALS = (64, 256, 1024), 3
NAME = "[role=gridcell][col-id='attributes.`Run Name`']"


@contextlib.contextmanager
def served(folder: Path, said: str) -> Iterator[tuple[str, str]]:
    """MLflow by the command that the program has said; its address, and the page of the runs."""
    program, *arguments = shlex.split(said.splitlines()[-1])
    assert program == "mlflow"
    page = re.search(r"^runs, once the server is up: http://127.0.0.1:5000(/.*)$", said, re.M)
    assert page is not None
    server = MlflowServer(folder, arguments=[*arguments, "--workers", "1"])
    try:
        server.start()
        yield server.uri, server.uri + page.group(1)
    finally:
        server.stop()


def run_link(browser: Chrome, found: Run) -> list[object]:
    return all_of(browser, f"{NAME} a[href*='{found.info.run_id}']")


def see_experiments(browser: Chrome, address: str) -> None:
    browser.get(f"{address}/#/experiments")
    one_of(browser, "a", "nqm_study")


def see_runs_and_open_a_study(browser: Chrome, page: str, folder: Path) -> None:
    """The list has studies and the summary; a study opens to its trials."""
    browser.get(page)
    (summary,) = runs(folder, "summary")
    studies = runs(folder, "study")
    assert len(studies) == len(SIZES)
    for each in (summary, *studies):
        until(browser, each.info.run_name, lambda each=each: run_link(browser, each))
    study = next(each for each in studies if each.data.params["batch_size"] == "256")
    trials = [
        each
        for each in runs(folder, "trial")
        if each.data.tags["mlflow.parentRunId"] == study.info.run_id
    ]
    assert len(trials) == N_TRIALS
    assert not any(run_link(browser, trial) for trial in trials), "they are below their study"
    cell = next(
        each
        for each in all_of(browser, NAME)
        if each.find_elements(By.CSS_SELECTOR, f"a[href*='{study.info.run_id}']")
    )
    cell.find_element(By.CSS_SELECTOR, "button").click()
    for trial in trials:
        until(browser, trial.info.run_name, lambda trial=trial: run_link(browser, trial))


def see_chart(browser: Chrome, run_page: str, steps: list[float]) -> None:
    """The chart of a summary's steps against batch size."""
    browser.get(f"{run_page}/model-metrics")
    one_of(browser, "[data-testid=experiment-view-compare-runs-card]", "steps_to_target")
    code = """
        const cards = document.querySelectorAll("[data-testid=experiment-view-compare-runs-card]");
        const card = [...cards].find(each => each.textContent.includes("steps_to_target"));
        const drawn = card?.querySelector(".js-plotly-plot .scatterlayer .trace");
        const line = drawn && card.querySelector(".js-plotly-plot").data.find(each => each.x);
        return line ? [Array.from(line.x), Array.from(line.y)] : null;
    """
    drawn = until(browser, "the chart's line", lambda: browser.execute_script(code))
    assert drawn == [list(map(float, SIZES)), steps]


def see_figure(browser: Chrome, run_page: str) -> None:
    browser.get(f"{run_page}/artifacts/figures/steps_to_target.png")
    code = "return arguments[0].naturalWidth"

    def loaded() -> bool:
        found = all_of(browser, "img[alt='figures/steps_to_target.png']")
        return bool(found) and browser.execute_script(code, found[0]) > 1000

    until(browser, "the figure", loaded)


def see_report(browser: Chrome, tmp_path: Path) -> None:
    """The page in the viewer's frame, which may run scripts and nothing else."""
    one_of(browser, "[data-testid=artifact-tree-node]", "report.html").click()
    frame = one_of(browser, "iframe.mlflow-html-iframe")
    assert frame.get_attribute("sandbox") == "allow-scripts"
    browser.switch_to.frame(frame)
    one_of(browser, ".legendtext", "sgd")
    markers = all_of(browser, ".scatterlayer .trace .points path")
    assert len(markers) == len(SIZES)
    browser.switch_to.default_content()
    keep_screenshot(browser, tmp_path, "mlflow_report")
    browser.switch_to.frame(frame)
    choose(browser, "y", "best learning rate")
    one_of(browser, ".ytitle", "best learning rate")
    browser.switch_to.default_content()


def see_diagnostics(browser: Chrome, run_page: str) -> None:
    browser.get(f"{run_page}/artifacts/diagnostics/diagnostics.html")
    browser.switch_to.frame(one_of(browser, "iframe.mlflow-html-iframe"))
    one_of(browser, ".gtitle", "Optimization history")
    browser.switch_to.default_content()


def test_sweep_is_in_mlflows_pages(tmp_path: Path) -> None:
    with chromium(tmp_path / "profile", (1600, 1000)) as browser:
        sizes = ",".join(map(str, SIZES))
        done = run(
            tmp_path, *TINY, "optimizer=sgd", f"batch_size={sizes}", f"study.n_trials={N_TRIALS}",
            "study.truth=false", "hydra/launcher=basic", "-m",
        )  # fmt: skip
        (summary,) = runs(tmp_path, "summary")
        bests = {
            int(each.data.params["batch_size"]): each.data.metrics["best_steps_to_target"]
            for each in runs(tmp_path, "study")
        }
        with served(tmp_path, done.stdout) as (address, page):
            experiment = summary.info.experiment_id
            run_page = f"{address}/#/experiments/{experiment}/runs/{summary.info.run_id}"
            see_experiments(browser, address)
            keep_screenshot(browser, tmp_path, "mlflow_experiments")
            see_runs_and_open_a_study(browser, page, tmp_path)
            keep_screenshot(browser, tmp_path, "mlflow_runs")
            see_chart(browser, run_page, [bests[size] for size in SIZES])
            keep_screenshot(browser, tmp_path, "mlflow_chart")
            see_figure(browser, run_page)
            keep_screenshot(browser, tmp_path, "mlflow_figure")
            see_report(browser, tmp_path)
            study, *_ = runs(tmp_path, "study")
            see_diagnostics(browser, run_page.replace(summary.info.run_id, study.info.run_id))
            keep_screenshot(browser, tmp_path, "mlflow_diagnostics")
