"""The turn loop: the model answers, its blocks run, the results go back."""
