"""What jobs and attempts hold, a file a kind: limits (permits, parked jobs); the fake's half. What becomes of it at the end: `preludes/effects.lua`."""
