"""Models of other providers, through LiteLLM."""
