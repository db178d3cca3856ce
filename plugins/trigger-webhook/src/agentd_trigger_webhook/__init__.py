"""The trigger `webhook`: wakes an agent of the daemon by signed requests."""
