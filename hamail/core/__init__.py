"""Pure decisions. No I/O, clock, randomness, logging or threads (enforced by import-linter)."""
