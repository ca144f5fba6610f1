"""A page in the browser to look at a photo, correct its mask, and save it; see `session.py` and `page.py`."""
