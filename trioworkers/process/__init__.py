"""What a worker process is besides its worker: Unix signals, the collector."""
