"""What `python -m meanteacher.compare` is made of: results read, grouped, measured, and shown as tables, picture and page."""
