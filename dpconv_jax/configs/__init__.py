"""The recipes: what `--config=configs/NAME.py` names. base.py explains every field."""
