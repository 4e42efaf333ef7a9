"""Gates: what the contracts promise, checked on the published tables before models are built on them."""
