"""How others do it: as their documentation has it."""
