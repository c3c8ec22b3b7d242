"""What people do with jobs and workers, and what is wrong with a Redis: look, operator actions, control of workers, diagnosis."""
