"""PuzzleBook: solve the pages of a book side by side, bind them when the last is solved, and tell Ruby when all is done."""

from __future__ import annotations

from trioworkers import Batch, Bury, Context, Job

from . import app
from .sudoku import solve


@app.handler("books", "PuzzlePage", timeout=60)
async def puzzle_page(ctx: Context, puzzle: str) -> str:
    """Takes `[puzzle]`; what it returns is kept with its batch."""
    try:
        solved = await ctx.run_cpu(solve, puzzle)
    except ValueError as error:
        raise Bury(str(error)) from error
    if solved is None:
        raise Bury("this puzzle has no solution")
    return solved


@app.handler("books", "BindBook")
async def bind_book(ctx: Context, book: int, count: int) -> None:
    """Takes `[book, count]`, when all pages are solved; answers with `SolvedBookJob` `[book, solutions]` on queue `solved`."""
    solutions = [await ctx.result(f"page {number}") for number in range(count)]
    ctx.enqueue(Job("solved", "SolvedBookJob", [book, solutions]))


@app.handler("books", "BookDone")
async def book_done(ctx: Context, book: int) -> None:
    """The batch's callback; answers with `BookReadyJob` `[book]` on queue `solved`, once."""
    ctx.enqueue(Job("solved", "BookReadyJob", [book]))


@app.handler("books", "PuzzleBook")
async def puzzle_book(ctx: Context, book: int, puzzles: list[str]) -> None:
    """Takes `[book, [puzzle, …]]`; sends the pages as a batch, in one step with its own success."""
    batch = Batch(f"book {book}", on_success=book_done.job(book))
    pages = [batch.add(puzzle_page.job(puzzle), name=f"page {number}") for number, puzzle in enumerate(puzzles)]
    batch.add(bind_book.job(book, len(puzzles)), after=pages)
    ctx.enqueue(batch)
