"""Delta's log store with conditional writes, compiled once at set-up by the compiler that Spark carries."""
