"""One worker process: fetch, run, settle, and the upkeep around it."""
