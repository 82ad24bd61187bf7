"""What is learnt beside a frozen backbone, at `adapters/<name>` of the parameters; no model's file knows of it."""
