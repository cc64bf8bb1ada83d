"""The faces that Westward shows to programs: its Python API. Nothing here prints; what it has to say goes to the logger "westward"."""

import logging

# a program that sets up no logging of its own hears nothing, and not Python's last resort on standard error
logging.getLogger("westward").addHandler(logging.NullHandler())
