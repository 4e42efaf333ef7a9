"""When records are sent: a window of history at once, live by the wall clock, or again at another speed."""
