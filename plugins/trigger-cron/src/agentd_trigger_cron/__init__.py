"""The trigger `cron`: wakes an agent of the daemon at times."""
