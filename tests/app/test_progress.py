"""What the terminal says of a study."""

import io

import pytest
from rich.console import Console

from nqm_study.app.progress import Board, Message, send


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "12 steps, 5 trials (5 new)\n"),
        (0.054, "12 steps, 5 trials (5 new); may not be exact: losses are off by up to 5.4 %\n"),
        (3e-8, "12 steps, 5 trials (5 new); may not be exact: losses are off by up to 3e-08\n"),
    ],
)
def test_a_study_that_is_over_says_where_its_steps_may_not_be_exact(
    error: float | None, said: str
) -> None:
    output = io.StringIO()
    board = Board(Console(file=output), {"long-name": "sgd B=4"})
    board.start()
    send(Message("long-name", done=5, total=5, steps=12, risk_error=error, new=5, over=True))
    board.stop()
    assert output.getvalue() == f"1/1  sgd B=4: {said}"


def test_what_was_sent_is_heard_before_a_study_is_settled() -> None:
    output = io.StringIO()
    board = Board(Console(file=output), {"long-name": "sgd B=4"})
    board.start()
    for done in range(1, 100):
        send(Message("long-name", done=done, total=100))
    send(Message("long-name", done=100, total=100, steps=12, new=100, over=True))
    board.hear_out()
    assert board.unfinished == []
    board.settle(Message("long-name", done=100, total=100, steps=12, new=None, over=True))
    board.stop()
    assert output.getvalue() == "1/1  sgd B=4: 12 steps, 100 trials (100 new)\n"


def test_a_name_of_others_is_shown_and_does_nothing() -> None:
    output = io.StringIO()
    board = Board(Console(file=output, force_terminal=True, width=200), {"a": "[red]x\x1b[2J\n"})
    board.start()
    send(Message("a", done=1, total=5, new=1))
    send(Message("a", done=5, total=5, steps=12, new=5, over=True))
    board.stop()
    shown = r"[red]x\x1b[2J\n"
    assert f"1/1  {shown}: 12 steps" in output.getvalue()
    assert "\x1b[2J" not in output.getvalue()
    board = Board(Console(file=output), {"a": "b"})
    board.start()
    send(Message("a", failed="\x1b[2J gone"))
    board.stop()
    assert r"b: failed, \x1b[2J gone" in output.getvalue()
