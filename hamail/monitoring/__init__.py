"""What operators and graphs look at."""
