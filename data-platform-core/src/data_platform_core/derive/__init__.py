"""From one contract to every tool's language. Nothing here states a field of its own."""
