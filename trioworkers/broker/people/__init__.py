"""What people do with jobs and workers, and what is wrong with a Redis: look, move by hand, speak to workers, diagnose."""
