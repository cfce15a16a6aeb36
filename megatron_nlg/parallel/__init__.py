"""Where a rank stands (layout), its process groups (context), its device, its random numbers."""
