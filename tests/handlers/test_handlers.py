"""The examples, run without Redis; the solver by itself."""

from __future__ import annotations

import pytest

from handlers import app
from handlers.sudoku import PEERS, solve
from handlers.tracking import services
from trioworkers import ConfigurationError, Job, testing

EASY = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."


@pytest.mark.parametrize("puzzle", [EASY, HARD, EASY.replace(".", "0"), "." * 81])
def test_solution_keeps_the_givens_and_breaks_no_rule(puzzle: str):
    solved = solve(puzzle)
    assert solved is not None
    assert all(given in ".0" or given == digit for given, digit in zip(puzzle, solved, strict=True))
    assert all(solved[cell] != solved[peer] for cell in range(81) for peer in PEERS[cell])


def test_puzzle_without_a_solution_is_told():
    assert solve("55" + "." * 79) is None
    with pytest.raises(ValueError, match="81 characters"):
        solve("123")


def test_services_are_read_from_one_setting():
    assert services("a=http://x/1, b=https://y") == {"a": "http://x/1", "b": "https://y"}
    for wrong in ("a", "a=ftp://x", "=http://x", "a=http://x,a=http://y"):
        with pytest.raises(ConfigurationError, match="TRACKING_SERVICES"):
            services(wrong)


async def test_book_is_bound_when_its_last_page_is_solved_and_told_of_once():
    async with testing.run(app) as test:
        await test.enqueue(Job("books", "PuzzleBook", [7, [EASY, HARD]]))
        await test.drain()
        assert sorted((job.job_class, *job.args) for job in test.jobs("solved")) == [
            ("BookReadyJob", 7),
            ("SolvedBookJob", 7, [solve(EASY), solve(HARD)]),
        ]


async def test_book_with_a_page_that_nobody_can_solve_waits_for_somebody():
    async with testing.run(app) as test:
        await test.enqueue(Job("books", "PuzzleBook", [7, [EASY, "55" + "." * 79]]))
        await test.drain()
        assert test.jobs("solved") == []
        assert [job.job_class for job in test.dead] == ["PuzzlePage"]


async def test_solved_puzzle_is_sent_to_ruby():
    async with testing.run(app) as test:
        await test.enqueue(
            Job("unsolved_puzzles", "SudokuSolver", [7, EASY]), Job("unsolved_puzzles", "SudokuSolver", [8, "55"])
        )
        await test.drain()
        assert [(job.job_class, job.args) for job in test.jobs("solved")] == [("SolvedPuzzleJob", (7, solve(EASY)))]
        assert [job.args[0] for job in test.dead] == [8]
