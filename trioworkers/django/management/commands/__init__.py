"""`manage.py trioworkers`."""
