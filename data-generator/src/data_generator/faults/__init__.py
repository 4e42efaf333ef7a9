"""Faults on purpose: seeded, injected between the world and the sink, and each known with what should become of it."""
