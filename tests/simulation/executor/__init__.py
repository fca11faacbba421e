"""The real executor in virtual time: its own code from the socket to the process-spawning border, on a kernel in memory."""
