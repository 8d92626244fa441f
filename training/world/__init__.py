"""A synthetic world of drawn portraits that speak."""
