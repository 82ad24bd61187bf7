"""Tables, plots and model cards from run directories."""
