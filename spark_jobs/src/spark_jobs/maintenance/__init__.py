"""What is done to the tables while the stream runs, by request: upkeep, forgetting."""
