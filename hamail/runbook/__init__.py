"""The runbook: what an operator needs on paper, made from the configuration that is in force."""
