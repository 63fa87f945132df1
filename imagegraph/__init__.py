"""Which images exist, what they descend from, what they are called; the API is `store`."""
