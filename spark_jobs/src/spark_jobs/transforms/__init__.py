"""Pure functions DataFrame → DataFrame; their tests mirror them."""
