"""`make endurance`: hours of mixed work and kills, measured from outside."""
