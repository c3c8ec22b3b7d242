"""What machines read: metrics (extra `metrics`) and traces (extra `otel`). A worker that was told of neither imports nothing of this."""
