"""The trigger `file`: wakes an agent of the daemon when files change."""
