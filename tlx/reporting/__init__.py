"""Tables, plots and pages from run directories."""
