"""Jobs that run and end."""
