"""`python -m trioworkers`: the same as the command `trioworkers`."""

from trioworkers.cli import main

main()
