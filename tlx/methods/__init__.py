"""What is learnt: the contract (`api`) and one file per method."""
