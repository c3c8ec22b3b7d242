"""What users write against: apps, handlers, contexts, fan-outs, clients."""
