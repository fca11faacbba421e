"""One seed, one trial: a plan is drawn, carried out on a simulated cluster, and judged."""
