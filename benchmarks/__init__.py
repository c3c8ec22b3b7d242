"""trioworkers and its peers on the same work, in turn, in one run: `make bench` (see docs/performance.md)."""
