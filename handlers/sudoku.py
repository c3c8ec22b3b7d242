"""SudokuSolver: solve a puzzle by brute force in another process, and send the solution to Ruby."""

from __future__ import annotations

from trioworkers import Bury, Context, Job

from . import app

DIGITS = set("123456789")


def peers(cell: int) -> set[int]:
    """The cells in the same row, column or box."""
    row, column = divmod(cell, 9)
    top, left = row // 3 * 3, column // 3 * 3
    same_row = {row * 9 + i for i in range(9)}
    same_column = {i * 9 + column for i in range(9)}
    same_box = {(top + i) * 9 + left + j for i in range(3) for j in range(3)}
    return (same_row | same_column | same_box) - {cell}


PEERS = [peers(cell) for cell in range(81)]


def solve(puzzle: str) -> str | None:
    """The solution of an 81-character puzzle (`.` or `0` for a blank), or None if it has none. Raises ValueError if malformed."""
    grid = list(puzzle.replace("0", "."))
    if len(grid) != 81 or not set(grid) <= DIGITS | {"."}:
        raise ValueError("a puzzle has 81 characters: digits, and . or 0 for blanks")
    if any(grid[cell] != "." and grid[cell] in (grid[peer] for peer in PEERS[cell]) for cell in range(81)):
        return None
    return "".join(grid) if _fill(grid) else None


def _fill(grid: list[str]) -> bool:
    """Fills the blanks by trying; the blank with the fewest possible digits first, which keeps the search small."""
    blanks = [cell for cell in range(81) if grid[cell] == "."]
    if not blanks:
        return True
    possible, cell = _tightest(grid, blanks)
    for digit in sorted(possible):
        grid[cell] = digit
        if _fill(grid):
            return True
    grid[cell] = "."
    return False


def _tightest(grid: list[str], blanks: list[int]) -> tuple[set[str], int]:
    options = {cell: DIGITS - {grid[peer] for peer in PEERS[cell]} for cell in blanks}
    cell = min(blanks, key=lambda blank: len(options[blank]))
    return options[cell], cell


@app.handler("unsolved_puzzles", "SudokuSolver", timeout=60)
async def sudoku_solver(ctx: Context, id: str | int, puzzle: str) -> None:  # noqa: A002 - the job's own word
    """Takes `[id, puzzle]`; answers with `SolvedPuzzleJob` `[id, solved]` on queue `solved`."""
    try:
        solved = await ctx.run_cpu(solve, puzzle)
    except ValueError as error:
        raise Bury(str(error)) from error
    if solved is None:
        raise Bury("this puzzle has no solution")
    ctx.enqueue(Job("solved", "SolvedPuzzleJob", [id, solved]))
