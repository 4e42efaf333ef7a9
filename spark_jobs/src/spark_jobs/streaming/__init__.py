"""The streaming application: one owner of all bronze, silver and quarantine tables."""
