"""Conditional writes for Delta's log and for checkpoints, compiled at set-up by the compiler that Spark carries."""
