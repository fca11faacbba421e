"""One archive with what somebody needs who is to help, and without what nobody else may know."""
