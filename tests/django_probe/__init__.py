"""A small project with SQLite, for tests of trioworkers.django."""
