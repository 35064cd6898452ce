"""What runs beside the calls: taking definitions in, publishing changes, ending what is due."""
