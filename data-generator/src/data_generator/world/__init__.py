"""The shop world: pure functions of a seed. No clock, no network, no state between calls."""
