"""Which tensor of one side belongs to which of the other, and which are asked for."""
