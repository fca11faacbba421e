"""The real executor in virtual time: all its own code down to the process-spawning border, on a kernel in memory."""
