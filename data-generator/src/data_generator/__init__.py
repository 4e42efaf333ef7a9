"""Makes the world of a shop, a function of its seed, and sends it to Kafka or files."""
