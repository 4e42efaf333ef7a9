"""Kafka → bronze → silver, and from there to PostgreSQL."""
