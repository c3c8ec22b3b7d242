"""Three examples as a user would write them: `trioworkers run handlers:app`.

One talks HTTP to several services at once, one computes in another process and answers Ruby with a job, one has jobs that belong together.
"""

from trioworkers import App

app = App()
app.queue("track", concurrency=1000)
app.queue("unsolved_puzzles", concurrency=10)
app.queue("books", concurrency=10)

from . import books, sudoku, tracking  # noqa: E402, F401 - they register their handlers with the app above
