"""The declaration of an operator, and the tools it is made with."""
