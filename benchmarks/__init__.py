"""How fast the stack is, as ratios to what cannot be faster. `make bench` shows it, `make bench-check` judges it."""
