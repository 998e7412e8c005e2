"""What is counted about cards, merchants and other entities: specification, plan, library."""
