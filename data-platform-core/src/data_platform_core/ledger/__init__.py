"""What was made = what arrived, at every stop."""
