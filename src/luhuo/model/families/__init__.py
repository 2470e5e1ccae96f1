"""One file per published family: its `config.json` and tensor names, both ways."""
