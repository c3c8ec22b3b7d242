"""What jobs and attempts hold, a file a kind: limits (permits, parked jobs), results. `effects.lua` says what becomes of it."""
