"""What an operator is: its declaration, and what that is made with."""
