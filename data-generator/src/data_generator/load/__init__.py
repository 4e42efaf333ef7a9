"""When records are sent: a window of history at once, or live by the wall clock."""
