"""Studies: arms that are variants of one config, trained with several seeds and compared."""
